import { z } from 'zod';
import type { Admission } from './admission.ts';
import { WORKER_METRICS_MS } from './limits.ts';
import type { Log } from './log.ts';
import type { Sample } from './metrics.ts';
import type { Registry } from './registry.ts';
import { isListed, METRICS, workerLabel, WORKERS_LABELLED_MAX } from './telemetry-names.ts';

const { outcome: outcomes } = METRICS.cfn_worker_requests_total.labels;
const count = z.int().nonnegative().default(0);

/** A worker's word for its numbers: whole, none below zero, outcomes from the list, each once. Nothing else of it gets out. */
const replySchema = z.strictObject({
  requests: z
    .array(z.strictObject({ outcome: z.string().refine((value) => isListed(outcomes, value)), count }))
    .max(outcomes.length)
    .refine((list) => new Set(list.map(({ outcome }) => outcome)).size === list.length)
    .default([]),
  engineMs: count,
  engineCalls: count,
  wiped: count,
  unwiped: count,
  wipeMs: count,
  sandboxes: count,
  engines: count,
  leases: count,
  memoryBytes: count,
});
type Told = z.infer<typeof replySchema>;

export interface WorkerMetrics {
  /** Of the admitted workers, as they last told. */
  samples(): Iterable<Sample>;
  /** Asks all of them now. */
  ask(): Promise<void>;
  stop(): void;
}

/** Asks the admitted workers for what they count, over the channels that they were admitted on. */
export function workerMetrics(deps: {
  readonly registry: Pick<Registry, 'live' | 'get'>;
  readonly admission: Pick<Admission, 'connection'>;
  readonly log: Log;
}): WorkerMetrics {
  const told = new Map<string, Told>();

  async function askOne(workerId: string): Promise<void> {
    const reply = await deps.admission
      .connection(workerId)
      ?.metrics()
      .catch(() => undefined); // silence is for admission to judge
    if (reply === undefined) return;
    const parsed = replySchema.safeParse(reply);
    if (parsed.success && !runsBackwards(told.get(workerId), parsed.data)) told.set(workerId, parsed.data);
    else deps.log('worker.metrics.refused', { worker: workerId });
  }
  async function ask(): Promise<void> {
    for (const workerId of told.keys()) if (deps.registry.get(workerId) === undefined) told.delete(workerId);
    await Promise.all(deps.registry.live().map(({ workerId }) => askOne(workerId)));
  }
  const timer = setInterval(() => void ask(), WORKER_METRICS_MS);
  timer.unref();

  return {
    ask,
    stop: () => clearInterval(timer),
    *samples() {
      const others: Told[] = [];
      let labelled = 0;
      for (const [workerId, numbers] of told) {
        if (deps.registry.get(workerId) === undefined) continue;
        if (labelled++ < WORKERS_LABELLED_MAX) yield* samplesOf(workerLabel(workerId), numbers);
        else others.push(numbers);
      }
      if (others.length > 0) yield* samplesOf('other', others.reduce(added));
    },
  };
}

const TOTALS = ['engineMs', 'engineCalls', 'wiped', 'unwiped', 'wipeMs'] as const;

/** A worker that starts anew has another id: under one id no total goes down. */
function runsBackwards(before: Told | undefined, after: Told): boolean {
  if (before === undefined) return false;
  const counts = new Map(after.requests.map((entry) => [entry.outcome, entry.count]));
  return (
    TOTALS.some((name) => after[name] < before[name]) ||
    before.requests.some((entry) => (counts.get(entry.outcome) ?? 0) < entry.count)
  );
}

function* samplesOf(worker: string, numbers: Told): Generator<Sample> {
  const labels = { worker };
  for (const { outcome, count: value } of numbers.requests)
    yield { name: 'cfn_worker_requests_total', labels: { worker, outcome }, value };
  yield { name: 'cfn_worker_engine_seconds_total', labels, value: numbers.engineMs / 1000 };
  yield { name: 'cfn_worker_engine_calls_total', labels, value: numbers.engineCalls };
  yield { name: 'cfn_worker_wipes_total', labels: { worker, stated: 'yes' }, value: numbers.wiped };
  yield { name: 'cfn_worker_wipes_total', labels: { worker, stated: 'no' }, value: numbers.unwiped };
  yield { name: 'cfn_worker_wipe_seconds_total', labels, value: numbers.wipeMs / 1000 };
  yield { name: 'cfn_worker_sandboxes', labels, value: numbers.sandboxes };
  yield { name: 'cfn_worker_engines', labels, value: numbers.engines };
  yield { name: 'cfn_worker_leases', labels, value: numbers.leases };
  yield { name: 'cfn_worker_memory_bytes', labels, value: numbers.memoryBytes };
}

function added(one: Told, two: Told): Told {
  const requests = new Map(one.requests.map((entry) => [entry.outcome, entry.count]));
  for (const { outcome, count: more } of two.requests) requests.set(outcome, (requests.get(outcome) ?? 0) + more);
  const sum = (name: Exclude<keyof Told, 'requests'>): number => one[name] + two[name];
  return {
    requests: [...requests].map(([outcome, value]) => ({ outcome, count: value })),
    engineMs: sum('engineMs'),
    engineCalls: sum('engineCalls'),
    wiped: sum('wiped'),
    unwiped: sum('unwiped'),
    wipeMs: sum('wipeMs'),
    sandboxes: sum('sandboxes'),
    engines: sum('engines'),
    leases: sum('leases'),
    memoryBytes: sum('memoryBytes'),
  };
}
