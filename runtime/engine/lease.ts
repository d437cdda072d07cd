import { Worker } from 'node:worker_threads';

/** How late the engine may be with its own end before the watchdog kills it, in ms. A run blocks the engine's thread. */
const WATCHDOG_GRACE_MS = 100;

export interface Lease {
  /** The lease now ends `leaseMs` from this call. */
  renew(leaseMs: number): void;
  /** Ends the process when the lease has ended: called before and after whatever uses the model. */
  check(): void;
}

/**
 * Ends the process when the lease does: the weights go with its memory. Time is the monotonic clock's, which nobody sets.
 * A second thread watches the deadline as well, because a timer does not fire while a run blocks this one.
 */
export function startLease(
  leaseMs: number,
  deps: { readonly monotonicNs: () => bigint; readonly exit: (code: number) => never },
): Lease {
  const deadlineNs = new BigInt64Array(new SharedArrayBuffer(8));
  let timer: NodeJS.Timeout | undefined;
  const remainingMs = (): number => Number((deadlineNs[0] ?? 0n) - deps.monotonicNs()) / 1e6;
  const check = (): void => {
    if (remainingMs() <= 0) deps.exit(0);
  };
  const arm = (): void => {
    check();
    clearTimeout(timer);
    timer = setTimeout(arm, Math.ceil(remainingMs()));
  };
  const renew = (ms: number): void => {
    check(); // an ended lease is not renewed
    Atomics.store(deadlineNs, 0, deps.monotonicNs() + BigInt(Math.round(ms * 1e6)));
    Atomics.notify(deadlineNs, 0);
    arm();
  };
  Atomics.store(deadlineNs, 0, deps.monotonicNs() + BigInt(Math.round(leaseMs * 1e6)));
  arm();
  const watchdog = new Worker(new URL('lease-watchdog.ts', import.meta.url), {
    workerData: { deadlineNs, graceMs: WATCHDOG_GRACE_MS } satisfies WatchdogData,
    env: {},
  });
  watchdog.unref();
  // Without its watchdog the engine could outlive its lease.
  watchdog.on('error', () => deps.exit(1));
  watchdog.on('exit', () => deps.exit(1));
  return { renew, check };
}

/** What the watchdog thread is given. `deadlineNs[0]` is on the clock of `process.hrtime`, which all threads share. */
export interface WatchdogData {
  readonly deadlineNs: BigInt64Array;
  readonly graceMs: number;
}
