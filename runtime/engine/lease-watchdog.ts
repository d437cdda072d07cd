import { workerData } from 'node:worker_threads';
import { LEASE_WAKE_MS, leaseClockMs } from '../lease-clock.ts';
import type { WatchdogData } from './lease.ts';

/** The thread behind a lease: kills the process when the deadline passed and the main thread did not end it. */
const { deadlineMs, graceMs } = workerData as WatchdogData;

for (;;) {
  const seen = Atomics.load(deadlineMs, 0);
  const remainingMs = Number(seen) - leaseClockMs() + graceMs;
  if (remainingMs <= 0) process.kill(process.pid, 'SIGKILL');
  // Returns early when the lease is renewed, and now and then in any case.
  Atomics.wait(deadlineMs, 0, seen, Math.max(1, Math.min(LEASE_WAKE_MS, remainingMs)));
}
