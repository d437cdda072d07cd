import { workerData } from 'node:worker_threads';
import type { WatchdogData } from './lease.ts';

/** The thread behind a lease: kills the process when the deadline passed and the main thread did not end it. */
const { deadlineNs, graceMs } = workerData as WatchdogData;

for (;;) {
  const seen = Atomics.load(deadlineNs, 0);
  const remainingMs = Number(seen - process.hrtime.bigint()) / 1e6 + graceMs;
  if (remainingMs <= 0) process.kill(process.pid, 'SIGKILL');
  Atomics.wait(deadlineNs, 0, seen, Math.max(1, remainingMs)); // returns early when the lease is renewed
}
