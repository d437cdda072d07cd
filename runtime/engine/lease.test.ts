import { expect, test } from 'vitest';
import { leaseClockMs } from '../lease-clock.ts';
import { startLease } from './lease.ts';

test('INV-06 an engine ends soon after a suspend in which its lease ended: no timer counts that time, the clock does', async () => {
  let suspendedMs = 0;
  const exited = Promise.withResolvers<number>();
  const lease = startLease(60_000, {
    leaseClockMs: () => leaseClockMs() + suspendedMs,
    exit: ((code: number) => {
      suspendedMs = 0; // this process goes on
      exited.resolve(code);
    }) as (code: number) => never,
  });
  lease.check();
  suspendedMs = 3_600_000;
  expect(await exited.promise).toBe(0);
});

test('the clock of leases goes on, to 10 ms', async () => {
  const before = leaseClockMs();
  await new Promise((resolve) => setTimeout(resolve, 100));
  const passed = leaseClockMs() - before;
  expect(passed).toBeGreaterThanOrEqual(80);
});
