import type { Syscall } from './syscalls.ts';

/** Calls that a process may make, with the reason. What no group of its list names is refused with EPERM. */
export interface Group {
  readonly why: string;
  readonly calls: readonly Syscall[];
  /** Only so; otherwise EPERM. */
  readonly when?: Condition;
  /** Refused with ENOSYS: the caller falls back to an older call then, and only then. */
  readonly absent?: true;
}

/** On one argument: its low 32 bits under the mask are one of the values. */
export interface Condition {
  readonly argument: number;
  readonly mask?: number;
  readonly oneOf: readonly number[];
  /** The high 32 bits are zero as well: for pointers. */
  readonly wide?: true;
}

const AF_UNIX = 1;
/** Any of these writes or makes a file: access mode, O_CREAT, O_TRUNC, the bit of O_TMPFILE that is not O_DIRECTORY. */
const OPENS_FOR_WRITING = 0x3 | 0x40 | 0x200 | 0x40_0000;
/** CLONE_VM, CLONE_SIGHAND, CLONE_THREAD: a thread, not a process. */
const THREAD = 0x100 | 0x800 | 0x1_0000;
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const NEW_NAMESPACE = 0x2_0000 | 0x7e00_0000;
const IOCTLS = { TCGETS: 0x5401, TIOCGWINSZ: 0x5413, FIONREAD: 0x541b, FIONBIO: 0x5421, FIOCLEX: 0x5451 };
const PRCTLS = { PR_SET_NAME: 15, PR_GET_NAME: 16, PR_SET_VMA: 0x5356_4d41 };

/** Node, V8 and glibc need these, whatever they run. */
const NODE: readonly Group[] = [
  {
    why: 'memory. V8 makes code while it runs, so PROT_EXEC cannot be refused: the filter assumes native code of the attacker',
    calls: ['brk', 'mmap', 'munmap', 'mprotect', 'mremap', 'madvise', 'pkey_alloc', 'pkey_free', 'pkey_mprotect'],
  },
  {
    why: 'threads of this process; no other process, no namespace',
    calls: ['clone'],
    when: { argument: 0, mask: THREAD | NEW_NAMESPACE, oneOf: [THREAD] },
  },
  {
    why: 'its flags lie in memory, where no filter sees them: glibc takes clone instead',
    calls: ['clone3'],
    absent: true,
  },
  { why: 'libuv does without', calls: ['io_uring_setup'], absent: true },
  {
    why: 'life of threads',
    calls: [
      ...([
        'futex',
        'set_robust_list',
        'set_tid_address',
        'rseq',
        'gettid',
        'arch_prctl',
        'exit',
        'exit_group',
      ] as const),
      ...(['sched_yield', 'sched_getaffinity', 'sched_getparam', 'sched_getscheduler'] as const),
    ],
  },
  { why: 'names of threads and mappings', calls: ['prctl'], when: { argument: 0, oneOf: Object.values(PRCTLS) } },
  {
    why: 'signals; the namespace holds no process but its own',
    calls: ['rt_sigaction', 'rt_sigprocmask', 'rt_sigreturn', 'sigaltstack', 'restart_syscall', 'kill', 'tgkill'],
  },
  {
    why: 'clocks and waiting',
    calls: ['clock_gettime', 'clock_getres', 'clock_nanosleep', 'nanosleep', 'gettimeofday'],
  },
  {
    why: 'descriptors it holds. No sendmsg, no recvmsg: no descriptor comes or goes',
    calls: [
      ...(['read', 'write', 'readv', 'writev', 'pread64', 'lseek', 'close', 'fstat', 'dup', 'dup2', 'dup3'] as const),
      ...(['fcntl', 'poll', 'ppoll', 'epoll_create1', 'epoll_ctl', 'epoll_wait', 'epoll_pwait'] as const),
      ...(['eventfd2', 'pipe2', 'shutdown', 'getsockopt', 'getsockname', 'getpeername'] as const),
    ],
  },
  {
    why: 'is it a terminal, do not block; nothing that drives a device or types into a terminal (TIOCSTI)',
    calls: ['ioctl'],
    when: { argument: 1, oneOf: Object.values(IOCTLS) },
  },
  {
    why: 'modules are read when they are needed; nothing is opened for writing',
    calls: ['openat'],
    when: { argument: 2, mask: OPENS_FOR_WRITING, oneOf: [0] },
  },
  { why: 'the same, by its old name', calls: ['open'], when: { argument: 1, mask: OPENS_FOR_WRITING, oneOf: [0] } },
  {
    why: 'what is there to be read',
    calls: [
      ...(['stat', 'lstat', 'newfstatat', 'statx', 'access', 'faccessat', 'faccessat2'] as const),
      ...(['readlink', 'readlinkat', 'getcwd', 'getdents64'] as const),
    ],
  },
  {
    why: 'who and where am I, and randomness',
    calls: [
      ...(['getpid', 'getppid', 'getuid', 'geteuid', 'getgid', 'getegid', 'capget', 'uname', 'sysinfo'] as const),
      ...(['getrusage', 'getrandom', 'umask'] as const),
    ],
  },
  {
    why: 'limits are read, not set: no new value',
    calls: ['prlimit64'],
    when: { argument: 2, oneOf: [0], wide: true },
  },
  {
    why: 'bubblewrap starts Node with it, under this filter. Afterwards Node is all there is to start, in the same jail',
    calls: ['execve'],
  },
  { why: 'bubblewrap waits for Node, as the first process of the namespace, under this filter, too', calls: ['wait4'] },
];

const UNIX_SOCKETS: Group = {
  why: 'Unix sockets alone; reachable are those in the one folder that is mounted',
  calls: ['socket'],
  when: { argument: 0, oneOf: [AF_UNIX] },
};

/** A sandbox runs tenant code. It connects to the engines of its function. */
const SANDBOX: readonly Group[] = [...NODE, UNIX_SOCKETS, { why: 'to engines', calls: ['connect'] }];

/** An engine parses what model owners and functions send it. It listens; it connects to nobody. */
const ENGINE: readonly Group[] = [
  ...NODE,
  UNIX_SOCKETS,
  { why: 'sandboxes connect to it', calls: ['bind', 'listen', 'accept4'] },
  { why: 'its sockets are its own user’s, and go when they close', calls: ['chmod', 'fchmodat', 'unlink', 'unlinkat'] },
];

export const ALLOWED = { sandbox: SANDBOX, engine: ENGINE } as const;
