import { Worker } from 'node:worker_threads';
import { LEASE_WAKE_MS } from '../lease-clock.ts';

/** How late the engine may be with its own end before the watchdog kills it, in ms. A run blocks the engine's thread. */
const WATCHDOG_GRACE_MS = 100;

export interface Lease {
  /** The lease now ends `leaseMs` from this call. */
  renew(leaseMs: number): void;
  /** Ends the process when the lease has ended: called before and after whatever uses the model. */
  check(): void;
}

/**
 * Ends the process when the lease does: the weights go with its memory. Time is that of `lease-clock.ts`, which nobody sets.
 * A second thread watches the deadline as well, because a timer does not fire while a run blocks this one.
 */
export function startLease(
  leaseMs: number,
  deps: { readonly leaseClockMs: () => number; readonly exit: (code: number) => never },
): Lease {
  const deadlineMs = new BigInt64Array(new SharedArrayBuffer(8));
  const fromNow = (ms: number): bigint => BigInt(Math.ceil(deps.leaseClockMs() + ms));
  let timer: NodeJS.Timeout | undefined;
  const remainingMs = (): number => Number(deadlineMs[0] ?? 0n) - deps.leaseClockMs();
  const check = (): void => {
    if (remainingMs() <= 0) deps.exit(0);
  };
  const arm = (): void => {
    check();
    clearTimeout(timer);
    timer = setTimeout(arm, Math.min(LEASE_WAKE_MS, Math.ceil(remainingMs())));
  };
  const renew = (ms: number): void => {
    check(); // an ended lease is not renewed
    Atomics.store(deadlineMs, 0, fromNow(ms));
    Atomics.notify(deadlineMs, 0);
    arm();
  };
  Atomics.store(deadlineMs, 0, fromNow(leaseMs));
  arm();
  const watchdog = new Worker(new URL('lease-watchdog.ts', import.meta.url), {
    workerData: { deadlineMs, graceMs: WATCHDOG_GRACE_MS } satisfies WatchdogData,
    env: {},
  });
  watchdog.unref();
  // Without its watchdog the engine could outlive its lease.
  watchdog.on('error', () => deps.exit(1));
  watchdog.on('exit', () => deps.exit(1));
  return { renew, check };
}

/** What the watchdog thread is given. `deadlineMs[0]` is on the clock of leases. */
export interface WatchdogData {
  readonly deadlineMs: BigInt64Array;
  readonly graceMs: number;
}
