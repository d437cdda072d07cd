import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { openChannel, type Channel, type Frame } from '../ipc/channel.ts';
import type { Jail } from '../jail/index.ts';
import { OVERWRITE_FREED } from './overwrite-freed.ts';
import { overwriteStackSoon } from './own-stack.ts';

/** One heap for tensors and pictures, which is not given back: mapping each of them anew costs more in page faults than the work itself. */
const heap = (mmapThreshold: number, trimThreshold: number) => ({
  ...OVERWRITE_FREED,
  GLIBC_TUNABLES: [
    OVERWRITE_FREED.GLIBC_TUNABLES,
    `glibc.malloc.mmap_threshold=${mmapThreshold}`,
    `glibc.malloc.trim_threshold=${trimThreshold}`,
  ].join(':'),
});
const MiB = 1024 * 1024;
/** What is freed is overwritten all the same. A sandbox gives back what a large request leaves at the top. */
export const ENVIRONMENT = {
  engine: heap(1024 * MiB, 1024 * 1024 * MiB),
  sandbox: heap(32 * MiB, 128 * MiB),
} as const;

export interface Child {
  /** Of the jail's outermost process, where there is a jail. */
  readonly pid: number;
  readonly channel: Channel;
  /** Of sockets between engines and sandboxes; of this process alone, and the only folder of the worker's that it sees. */
  readonly sockets: string;
  /** The process is gone, and its memory with it: the kernel gives up memory before it closes the channel. */
  readonly ended: Promise<void>;
  readonly kill: () => void;
}

export interface ChildOptions {
  readonly jail: Jail;
  /** Of the worker, mode 0700. */
  readonly socketDir: string;
  readonly stderr: 'ignore' | 'inherit';
  /** What the sandbox's loader is to run, as `buildSandboxProgram` wrote it. */
  readonly program?: Uint8Array;
}

/**
 * Starts an engine or a sandbox: an own process, in the jail, with an empty environment and one channel, on fd 3.
 * Its output is dropped, because a crash trace can hold request data.
 */
export function startChild(
  entry: 'engine' | 'sandbox',
  { jail, socketDir, stderr, program }: ChildOptions,
  onFrame: (frame: Frame) => void,
): Child {
  const sockets = mkdtempSync(join(socketDir, `${entry}-`));
  const process_ = jail.start(entry, {
    // isolated-vm needs the flag (its README).
    nodeFlags: entry === 'sandbox' ? ['--no-node-snapshot'] : [],
    env: ENVIRONMENT[entry],
    stdio: ['ignore', 'ignore', stderr, 'pipe'],
    sockets,
  });
  const kill = (): void => void process_.kill('SIGKILL');
  const exited = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  process_.once('exit', () => {
    overwriteStackSoon();
    exited.resolve();
  });
  process_.once('error', () => exited.resolve());
  const onClose = (): void => {
    closed.resolve();
    kill();
  };
  const channel = openChannel(process_.stdio[3] as Socket, onFrame, onClose, program);
  const ended = Promise.all([exited.promise, closed.promise]).then(() =>
    rmSync(sockets, { recursive: true, force: true }),
  );
  return { pid: process_.pid ?? -1, channel, sockets, ended, kill };
}
