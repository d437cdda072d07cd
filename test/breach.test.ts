import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import {
  accessSync,
  closeSync,
  constants,
  copyFileSync,
  openSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { processTree } from '../deploy/index.ts';
import { ENVIRONMENT } from '../runtime/agent/child-process.ts';
import { findBubblewrap } from '../runtime/jail/bubblewrap.ts';
import { makeJail, type StartOptions } from '../runtime/jail/jail.ts';
import { openJail, type Jail } from '../runtime/jail/index.ts';

/**
 * V8 has a hole, and the attacker runs native code in the process of a sandbox or an engine. It is the real program, started as the
 * worker starts it; only, the attacker's library is mounted beside it and loaded first. Every attempt is made without the jail as
 * well, where those that can succeed do: so each can tell a refusal from a mistake of its own.
 */
const FIXTURES = new URL('./fixtures/breach/', import.meta.url).pathname;
const COMPILER = '/usr/bin/cc';
const isThere = (file: string | undefined): boolean => {
  try {
    accessSync(file ?? '', constants.X_OK);
    return file !== undefined;
  } catch {
    return false;
  }
};
const missing = [
  ...(isThere(findBubblewrap()) ? [] : ['bubblewrap']),
  ...(isThere(COMPILER) ? [] : ['a C compiler']),
].join(' and ');
const skipped = missing !== '' && process.env['CI'] === undefined;
const isRoot = process.getuid?.() === 0;

/** What stands for the rest of the worker: its files, its sockets, a neighbour. */
interface Surroundings {
  readonly dir: string;
  /** Of the process under attack: the one folder it is given. */
  readonly own: string;
  readonly neighbour: number;
  readonly port: number;
  readonly abstract: string;
  close(): void;
}

let jail: Jail;
let around: Surroundings;
const unjailed = makeJail({ bubblewrap: undefined, architecture: undefined, cgroups: undefined });

beforeAll(async () => {
  if (skipped) return;
  if (missing !== '') throw new Error(`with CI set, the test needs ${missing}: scripts/setup-debian.sh`);
  jail = await openJail();
  around = await surroundings();
  const flags = ['-shared', '-fPIC', '-O1', '-pthread', '-o', join(around.dir, 'attack/attack.node')];
  execFileSync(COMPILER, [...flags, join(FIXTURES, 'attack.c')]);
  copyFileSync(join(FIXTURES, 'attack.cjs'), join(around.dir, 'attack/attack.cjs'));
});
afterAll(() => around?.close());

async function surroundings(): Promise<Surroundings> {
  const dir = mkdtempSync(join(tmpdir(), 'cfn-breach-'));
  for (const folder of ['attack', 'sockets', 'sockets/own', 'sockets/other']) mkdirSync(join(dir, folder));
  writeFileSync(join(dir, 'agent.key'), 'a key');
  const abstract = `cfn-breach-${process.pid}`;
  const servers: Server[] = [];
  const listen = async (where: string | number): Promise<Server> => {
    const server = createServer((socket) => socket.destroy());
    servers.push(server);
    if (typeof where === 'string') server.listen(where);
    else server.listen(where, '127.0.0.1');
    await once(server, 'listening');
    return server;
  };
  const tcp = await listen(0);
  await Promise.all([
    listen(`\0${abstract}`),
    ...['agent.sock', 'sockets/own/engine.sock', 'sockets/other/engine.sock'].map((path) => listen(join(dir, path))),
  ]);
  // Another tenant's sandbox, under the same jail.
  const other = jail.start('sandbox', {
    env: ENVIRONMENT.sandbox,
    nodeFlags: ['--no-node-snapshot'],
    stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    sockets: join(dir, 'sockets/other'),
  });
  const neighbour = await nodeBelow(other.pid ?? -1);
  return {
    dir,
    own: join(dir, 'sockets/own'),
    neighbour,
    port: (tcp.address() as AddressInfo).port,
    abstract,
    close() {
      other.kill('SIGKILL');
      for (const server of servers) server.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function nodeBelow(pid: number): Promise<number> {
  for (;;) {
    const found = processTree(pid).find((candidate) =>
      readFileSync(`/proc/${candidate}/comm`, 'utf8').startsWith('Main'),
    );
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

type Kind = 'sandbox' | 'engine';

/** The outcome of each attempt; `killed` for one that the process did not survive. */
async function attack(
  where: Jail,
  kind: Kind,
  attempts: readonly string[],
  options: Partial<StartOptions> = {},
): Promise<Map<string, string>> {
  const child = where.start(kind, {
    env: { ...ENVIRONMENT[kind], ATTEMPTS: attempts.join(' ') },
    nodeFlags: [
      '--require',
      join(around.dir, 'attack/attack.cjs'),
      ...(kind === 'sandbox' ? ['--no-node-snapshot'] : []),
    ],
    stdio: ['ignore', 'pipe', 'ignore', 'pipe'],
    sockets: around.own,
    extra: [[join(around.dir, 'attack'), join(around.dir, 'attack')]],
    ...options,
  });
  const outcomes = new Map<string, string>();
  for await (const line of createInterface({ input: child.stdout as Readable })) {
    const [attempt = '', outcome = ''] = line.split('\t');
    if (attempt === 'end') break;
    outcomes.set(attempt, outcome);
  }
  child.kill('SIGKILL');
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  for (const attempt of attempts) if (!outcomes.has(attempt)) outcomes.set(attempt, 'killed');
  return outcomes;
}

/** `able`: who succeeds at it where there is no jail. */
interface Attempt {
  readonly what: string;
  readonly run: () => string;
  readonly able: 'anybody' | 'root' | 'nobody';
}
const any = (what: string, run: () => string): Attempt => ({ what, run, able: 'anybody' });
const root = (what: string, run: () => string): Attempt => ({ what, run, able: 'root' });
const unsure = (what: string, run: () => string): Attempt => ({ what, run, able: 'nobody' });

const ATTEMPTS: readonly Attempt[] = [
  any('an IPv4 socket', () => 'inet'),
  any('an IPv6 socket', () => 'inet6'),
  any('a netlink socket', () => 'netlink'),
  root('a packet socket', () => 'packet'),
  unsure('a vsock socket', () => 'vsock'), // where the kernel has it
  unsure('a socket of the kernel’s ciphers', () => 'alg'),
  any('a pair of sockets', () => 'pair'),
  any('sending a descriptor', () => 'send-descriptor'),
  any('connecting to the agent’s port', () => `connect-tcp=${around.port}`),
  any('connecting to the agent’s socket', () => `connect-unix=${around.dir}/agent.sock`),
  any('connecting to the engine of another function', () => `connect-unix=${around.dir}/sockets/other/engine.sock`),
  any('connecting to an abstract socket', () => `connect-abstract=${around.abstract}`),
  any('reading a key of the agent', () => `read-file=${around.dir}/agent.key`),
  any('reading /etc/passwd', () => 'read-file=/etc/passwd'),
  any('seeing the sockets of others', () => `list=${around.dir}/sockets,own`),
  any('seeing the worker’s folder', () => `list=${around.dir},attack,sockets`),
  unsure('listing /root', () => 'list=/root'),
  any('listing /sys', () => 'list=/sys'),
  any('making a file', () => `make-file=${around.own}/new`),
  any('making a folder', () => `make-folder=${around.own}/folder`),
  any('writing to /tmp', () => `make-file=${around.dir}/new`),
  any('making shared memory', () => `make-file=/dev/shm/cfn-breach-${process.pid}`),
  any('writing to what it can read', () => `open-for-writing=${around.dir}/attack/attack.cjs`),
  any('raising its own place in the kernel’s list of victims', () => 'open-for-writing=/proc/self/oom_score_adj'),
  root('tuning the kernel', () => 'open-for-writing=/proc/sys/kernel/core_pattern'),
  any('seeing the agent', () => `see=${process.pid}`),
  any('seeing another sandbox', () => `see=${around.neighbour}`),
  root('reading the agent’s memory', () => `memory=${process.pid}`),
  root('reading another sandbox’s memory', () => `memory=${around.neighbour}`),
  root('process_vm_readv of the agent', () => `vm-read=${process.pid}`),
  root('process_vm_readv of another sandbox', () => `vm-read=${around.neighbour}`),
  root('tracing another sandbox', () => `trace=${around.neighbour}`),
  any('a signal to the agent', () => `signal=${process.pid}`),
  any('a signal to another sandbox', () => `signal=${around.neighbour}`),
  any('a descriptor of the agent', () => `pidfd=${process.pid}`),
  any('a process', () => 'new-process'),
  any('a program in memory', () => 'exec-memory'),
  unsure('a program from a descriptor', () => 'exec-at'),
  root('a mount', () => `mount=${around.own}`),
  root('a mount, by the new calls', () => 'open-mount'),
  root('another root', () => 'chroot'),
  root('a user namespace', () => 'user-namespace'),
  root('a user namespace, by clone3', () => 'clone3-namespace'),
  root('a namespace by unshare', () => 'leave-namespace'),
  root('being root', () => 'become-root'),
  any('the kernel’s keys', () => 'keys'),
  root('a BPF map', () => 'bpf'),
  unsure('a performance counter', () => 'perf'),
  unsure('an io_uring', () => 'uring'),
  root('a userfaultfd', () => 'faults'),
  root('typing into a terminal', () => 'type-into-terminal'),
  any('another personality', () => 'personality'),
  any('a higher limit', () => 'raise-limit'),
  root('another host name', () => 'host-name'),
  root('the kernel’s log', () => 'kernel-log'),
  root('another time', () => 'set-clock'),
  any('a file handle', () => 'file-handle'),
];

describe.skipIf(skipped)(`INV-16 native code in a confined process${missing && ` (needs ${missing})`}`, () => {
  test('all layers are in force here', () => {
    expect(jail.layers.filter(({ inForce }) => !inForce)).toEqual([]);
  });

  test('the attempts succeed without the jail', async () => {
    const outcomes = await attack(
      unjailed,
      'sandbox',
      ATTEMPTS.map(({ run }) => run()),
    );
    const able = ATTEMPTS.filter((attempt) => attempt.able === 'anybody' || (attempt.able === 'root' && isRoot));
    const failed = able.filter(({ run }) => outcomes.get(run()) !== 'done');
    expect(failed.map(({ what, run }) => `${what}: ${outcomes.get(run())}`)).toEqual([]);
    expect(able.length).toBeGreaterThan(isRoot ? 45 : 25);
  });

  test.each(['sandbox', 'engine'] as const)('are refused to the %s', async (kind) => {
    const outcomes = await attack(
      jail,
      kind,
      ATTEMPTS.map(({ run }) => run()),
    );
    const refused = ['EPERM', 'EROFS', 'ENOENT', 'ESRCH', 'ECONNREFUSED', 'EACCES', 'ENOSYS'];
    const let_ = ATTEMPTS.filter(({ run }) => !refused.includes(outcomes.get(run()) ?? ''));
    expect(let_.map(({ what, run }) => `${what}: ${outcomes.get(run())}`)).toEqual([]);
  });

  test('a sandbox reaches the engine of its own function, and an engine reaches nobody', async () => {
    const own = `connect-unix=${around.own}/engine.sock`;
    expect((await attack(jail, 'sandbox', [own])).get(own)).toBe('done');
    expect((await attack(jail, 'engine', [own])).get(own)).toBe('EPERM');
  });

  test('there is no other program to become', async () => {
    expect((await attack(unjailed, 'sandbox', ['exec-shell'])).get('exec-shell')).toBe('done');
    expect((await attack(jail, 'sandbox', ['exec-shell'])).get('exec-shell')).toBe('ENOENT');
  });

  test.skipIf(process.arch !== 'x64').each(['foreign-calls', 'x32-calls'])(
    'calls by other numbers end the process: %s',
    async (attempt) => {
      expect((await attack(unjailed, 'sandbox', [attempt])).get(attempt)).not.toBe('killed');
      expect((await attack(jail, 'sandbox', [attempt])).get(attempt)).toBe('killed');
    },
  );

  test('memory is bounded', async () => {
    const bounds = { memoryBytes: 192 * 1024 * 1024, tasks: 64 };
    expect((await attack(unjailed, 'sandbox', ['take-memory=384'])).get('take-memory=384')).toBe('done');
    expect((await attack(jail, 'sandbox', ['take-memory=384'], { bounds })).get('take-memory=384')).toBe('killed');
    expect((await attack(jail, 'sandbox', ['take-memory=64'], { bounds })).get('take-memory=64')).toBe('done');
  });

  test('threads are bounded', async () => {
    expect((await attack(unjailed, 'sandbox', ['take-threads=1000'])).get('take-threads=1000')).toBe('done');
    expect((await attack(jail, 'sandbox', ['take-threads=1000'])).get('take-threads=1000')).toBe('EAGAIN');
  });

  test('it holds no descriptor but its channel and what Node made', async () => {
    // A worker that was itself given one that it does not know of.
    const secret = openSync(join(around.dir, 'agent.key'), 'r');
    const strays = [...Array.from({ length: 40 }, () => 'ignore' as const), secret];
    const worker = (where: 'jailed' | 'unjailed'): string =>
      execFileSync(process.execPath, [join(FIXTURES, 'worker-with-strays.ts'), join(around.dir, 'attack'), where], {
        stdio: ['ignore', 'pipe', 'inherit', ...strays.slice(3)],
        encoding: 'utf8',
      });
    const [seen, unguarded] = [worker('jailed'), worker('unjailed')];
    closeSync(secret);
    const targets = [...seen.matchAll(/^descriptor=(\d+)\t(.*)$/gm)].map(([, fd, target]) => `${fd} ${target}`);
    const nodes = /^\d+ (anon_inode:\[(eventpoll|eventfd)\]|pipe:\[\d+\]|\/dev\/null)$/;
    expect(targets.filter((target) => !nodes.test(target))).toEqual([
      expect.stringMatching(/^1 socket:/), // our own, to hear of it
      expect.stringMatching(/^3 socket:/),
    ]);
    expect(unguarded).toContain('agent.key');
  });
});
