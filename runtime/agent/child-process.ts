import { spawn, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { openChannel, type Channel, type Frame } from '../ipc/channel.ts';

/**
 * Makes glibc overwrite freed heap, so that no request byte outlives its buffer (mallopt(3), M_PERTURB). Its per-thread caches do not
 * take part in that, so they are off; and stacks of threads that have ended are not kept for the next ones, as they are not overwritten.
 */
export const OVERWRITE_FREED = {
  MALLOC_PERTURB_: '165',
  GLIBC_TUNABLES: 'glibc.malloc.tcache_count=0:glibc.pthread.stack_cache_size=0',
} as const;

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
  readonly pid: number;
  readonly channel: Channel;
  readonly ended: Promise<void>;
  readonly kill: () => void;
}

/**
 * Starts an engine or a sandbox: an own process with an empty environment and one channel, on fd 3.
 * Its output is dropped, because a crash trace can hold request data.
 */
export function startChild(
  entry: 'engine' | 'sandbox',
  options: { readonly stderr: 'ignore' | 'inherit' },
  onFrame: (frame: Frame) => void,
): Child {
  const file = fileURLToPath(new URL(`../${entry}/main.ts`, import.meta.url));
  // isolated-vm needs the flag (its README).
  const flags = entry === 'sandbox' ? ['--no-node-snapshot'] : [];
  const process_: ChildProcess = spawn(process.execPath, [...flags, file], {
    env: ENVIRONMENT[entry],
    stdio: ['ignore', 'ignore', options.stderr, 'pipe'],
  });
  const kill = (): void => void process_.kill('SIGKILL');
  const ended = new Promise<void>((resolve) => {
    process_.on('exit', () => resolve());
    process_.on('error', () => resolve());
  });
  const channel = openChannel(process_.stdio[3] as Socket, onFrame, kill);
  return { pid: process_.pid ?? -1, channel, ended, kill };
}
