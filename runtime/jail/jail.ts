import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { openSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import type { Writable } from 'node:stream';
import { ALLOWED } from './allowed.ts';
import { bubblewrapArguments, type Mounts } from './bubblewrap.ts';
import type { Bounds, Cgroup, Cgroups } from './cgroup.ts';
import { inheritedDescriptors } from './descriptors.ts';
import { entryFile, NODE, type Kind } from './files.ts';
import type { Layer } from './layers.ts';
import { seccompProgram } from './seccomp.ts';
import type { Architecture } from './syscalls.ts';

/** How processes are confined on this machine. */
export interface Jail {
  readonly layers: readonly Layer[];
  /**
   * Starts a process of a kind, confined. Descriptors from 4 on are the jail's own and are closed before Node starts. The process that
   * is returned is bubblewrap where there is one: when it is killed, so are all in the namespace.
   */
  start(kind: Kind, options: StartOptions): ChildProcess;
}

export interface StartOptions extends Mounts {
  readonly env: Readonly<Record<string, string>>;
  /** Descriptors 0 to 3. */
  readonly stdio: [StdioOption, StdioOption, StdioOption, StdioOption];
  readonly nodeFlags?: readonly string[];
  /** Instead of the kind's own; a test's. */
  readonly bounds?: Bounds;
}
type StdioOption = 'ignore' | 'inherit' | 'pipe';

/** What a jail is made of; each part may be missing. */
export interface Parts {
  readonly bubblewrap: string | undefined;
  /** Undefined: no filter. */
  readonly architecture: Architecture | undefined;
  readonly cgroups: Cgroups | undefined;
}

const GiB = 1024 ** 3;
/**
 * Memory of one process. A sandbox looks at its own use and stops invocations long before (`serve.ts`); this holds when it does not.
 * An engine holds a model; its size is the owner's, so the bound is the machine's less what keeps the agent alive. First guesses.
 */
const MEMORY_BYTES: Readonly<Record<Kind, () => number>> = {
  sandbox: () => Math.min(4 * GiB, totalmem() / 2),
  engine: () => totalmem() * 0.8,
  probe: () => GiB / 2,
};
/** Node has about a dozen threads, isolated-vm and ONNX Runtime one for each processor; bubblewrap is two. */
const TASKS_FIXED = 48;
const TASKS_PER_PROCESSOR = 4;

export function boundsOf(kind: Kind): Bounds {
  return {
    memoryBytes: Math.floor(MEMORY_BYTES[kind]()),
    tasks: TASKS_FIXED + TASKS_PER_PROCESSOR * availableParallelism(),
  };
}

/** A jail of these parts. `layers` is what probes have seen of them. */
export function makeJail(parts: Parts, layers: readonly Layer[] = []): Jail {
  return {
    layers,
    start(kind, { env, stdio, nodeFlags = [], bounds = boundsOf(kind), ...mounts }) {
      const group = parts.cgroups?.make(bounds);
      const inside = parts.bubblewrap !== undefined;
      const node = [...nodeFlags, entryFile(kind, inside ? 'inside' : 'outside')];
      const filter =
        inside && parts.architecture !== undefined
          ? seccompProgram(ALLOWED[kind === 'engine' ? 'engine' : 'sandbox'], parts.architecture)
          : undefined;
      const command =
        parts.bubblewrap === undefined
          ? [process.execPath, ...node]
          : [
              parts.bubblewrap,
              ...bubblewrapArguments(kind, mounts),
              ...(filter === undefined ? [] : ['--seccomp', '4']),
              NODE,
              ...node,
            ];
      const own = filter === undefined ? stdio : [...stdio, 'pipe' as const];
      const child = spawn('/bin/sh', ['-c', preamble(group), ...command], { env, stdio: withoutStrays(own) });
      if (filter !== undefined) {
        const pipe = child.stdio[4] as Writable;
        pipe.on('error', () => undefined); // bubblewrap ended before it read: its exit says so
        pipe.end(filter);
      }
      child.once('exit', () => void group?.remove());
      child.once('error', () => void group?.remove());
      return child;
    },
  };
}

/** The worker's other descriptors become /dev/null in the jail: `spawn` passes on what it was not told of. */
function withoutStrays(own: readonly StdioOption[]): StdioOptions {
  const all: (StdioOption | number)[] = [...own];
  for (const fd of inheritedDescriptors().filter((stray) => own[stray] === undefined || own[stray] === 'ignore')) {
    while (all.length < fd) all.push('ignore');
    all[fd] = nullDescriptor();
  }
  return all;
}

let devNull: number | undefined;
const nullDescriptor = (): number => (devNull ??= openSync('/dev/null', 'r'));

/**
 * Joins the group; then becomes bubblewrap, so that no process is added. No RLIMIT_DATA in place of a group: V8 reserves half a
 * gigabyte of it for each isolate, so a limit that lets isolates be would bound nothing.
 */
function preamble(group: Cgroup | undefined): string {
  return [
    ...(group?.joinFiles ?? []).map((file) => `echo $$ > '${file}'`),
    'ulimit -c 0', // a core file would hold the memory
    'exec "$0" "$@"',
  ].join(' && ');
}
