import type { MetricsReply } from '../../proto/grpc.ts';
import type { Receipt } from '../../proto/index.ts';

/** What a worker counts, for the operator: totals over all functions, and nothing of a request. */
export interface WorkerMetrics {
  invoked(claims: Pick<Receipt, 'outcome' | 'usage' | 'wipe'>, wipeMs: number): void;
  reply(): MetricsReply;
}

/** What is there now. */
export interface Inventory {
  readonly sandboxes: number;
  readonly engines: number;
  readonly leases: number;
  readonly memoryBytes: number;
}

/** Memory is told in steps of so many bytes: functions could say something by the finer ones. */
const MEMORY_STEP_BYTES = 16 * 1024 * 1024;

export function workerMetrics(inventory: () => Inventory): WorkerMetrics {
  const requests = new Map<string, number>();
  const sum = { engineMs: 0, engineCalls: 0, wiped: 0, unwiped: 0, wipeMs: 0 };
  return {
    invoked({ outcome, usage, wipe }, wipeMs) {
      requests.set(outcome, (requests.get(outcome) ?? 0) + 1);
      sum.engineMs += usage.engineMs;
      sum.engineCalls += usage.engineCalls;
      sum[wipe.isolateDisposed ? 'wiped' : 'unwiped'] += 1;
      sum.wipeMs += wipeMs;
    },
    reply() {
      const { sandboxes, engines, leases, memoryBytes } = inventory();
      return {
        requests: [...requests].map(([outcome, count]) => ({ outcome, count })),
        engineMs: Math.round(sum.engineMs),
        engineCalls: sum.engineCalls,
        wiped: sum.wiped,
        unwiped: sum.unwiped,
        wipeMs: Math.round(sum.wipeMs),
        sandboxes,
        engines,
        leases,
        memoryBytes: Math.round(memoryBytes / MEMORY_STEP_BYTES) * MEMORY_STEP_BYTES,
      };
    },
  };
}
