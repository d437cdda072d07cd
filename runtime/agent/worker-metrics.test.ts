import { expect, test } from 'vitest';
import { timeline } from './timeline.ts';
import { workerMetrics } from './worker-metrics.ts';

const MiB = 1024 * 1024;
const usage = { cpuMs: 3.7, wallMs: 5, engineMs: 2.6, engineCalls: 2 };
const wipe = {
  isolateDisposed: true,
  sandboxBytesOverwritten: 123_457,
  engineBytesOverwritten: 1,
  agentBytesOverwritten: 9,
};

test('INV-33 a worker tells totals in whole numbers, and memory in steps', () => {
  const metrics = workerMetrics(() => ({ sandboxes: 2, engines: 1, leases: 3, memoryBytes: 123.4 * MiB }));
  metrics.invoked({ outcome: 'ok', usage, wipe }, 1.2);
  metrics.invoked({ outcome: 'ok', usage, wipe }, 1.2);
  metrics.invoked({ outcome: 'CFN_LIMIT_WALL', usage, wipe: { ...wipe, isolateDisposed: false } }, 0);
  expect(metrics.reply()).toEqual({
    requests: [
      { outcome: 'ok', count: 2 },
      { outcome: 'CFN_LIMIT_WALL', count: 1 },
    ],
    engineMs: 8,
    engineCalls: 6,
    wiped: 2,
    unwiped: 1,
    wipeMs: 2,
    sandboxes: 2,
    engines: 1,
    leases: 3,
    memoryBytes: 128 * MiB,
  });
});

test('INV-33 times of a trace are in steps of 100 µs, and 0 for what there was not', () => {
  let nowMs = 1000;
  const times = timeline(() => nowMs);
  nowMs += 1.2345;
  times.mark('opened');
  nowMs += 1;
  times.mark('answered');
  nowMs += 1;
  times.mark('answered'); // the last piece counts
  nowMs += 0.55;
  expect(times.wipeMs()).toBe(0); // not said yet
  times.mark('wiped');
  expect(times.wipeMs()).toBeCloseTo(0.55);
  expect(times.timings(0.987)).toEqual({
    openedUs: 1200,
    startedUs: 0,
    answeredUs: 3200,
    wipedUs: 3700,
    engineUs: 900,
  });
});
