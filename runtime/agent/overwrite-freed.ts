import { CfnError } from '../../proto/index.ts';

/**
 * Makes glibc overwrite freed heap, so that no request byte outlives its buffer (mallopt(3), M_PERTURB). Its per-thread caches do not
 * take part in that, so they are off; and stacks of threads that have ended are not kept for the next ones, as they are not overwritten.
 * Symbols are bound at load (ld.so(8)): binding one at its first call saves the vector registers to the stack, and what a copy has left in
 * them.
 */
export const OVERWRITE_FREED = {
  LD_BIND_NOW: '1',
  MALLOC_PERTURB_: '165',
  GLIBC_TUNABLES: 'glibc.malloc.tcache_count=0:glibc.pthread.stack_cache_size=0',
} as const;

/**
 * The agent needs it as its children do, and the loader reads it before any code of ours runs: a worker that was started without it
 * becomes one that was, in the same process. To be called before anything is open.
 */
export function demandOverwriteFreed(): void {
  if (Object.entries(OVERWRITE_FREED).every(([name, value]) => process.env[name] === value)) return;
  const { env, execPath, execArgv, argv } = process;
  process.execve?.(execPath, [execPath, ...execArgv, ...argv.slice(1)], { ...env, ...OVERWRITE_FREED });
  throw new CfnError('CFN_INTERNAL', 'this system cannot start a program in its own place (execve)');
}
