import { ERRORS, type ErrorCode } from '../proto/index.ts';

// All that metrics and traces of a gateway may say (design §9): names, and for each label the values that it can have. What is not here
// leaves nobody; the dashboard, the alerts and a test of everything that is emitted are held to it.

/** How an operation ended: `ok`, or the code of its error. */
export type Outcome = 'ok' | ErrorCode;
export type Mode = 'sealed' | 'open';

/** A closed list, or the form of an identifier that is random or a digest. */
export type LabelValues = readonly string[] | RegExp;

const OUTCOMES: readonly string[] = ['ok', ...Object.keys(ERRORS)];
const MODES: readonly Mode[] = ['sealed', 'open'];
/** The beginning of a worker's id; `other` stands for all workers beyond {@link WORKERS_LABELLED_MAX}. */
const WORKER = /^([0-9a-f]{12}|other)$/;
/** Workers that have a label of their own: each costs some dozens of series. */
export const WORKERS_LABELLED_MAX = 1_000;

export interface MetricDefinition {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: Readonly<Record<string, LabelValues>>;
  /** Upper bounds of a histogram's buckets. */
  readonly buckets?: readonly number[];
}

const ofWorker = { worker: WORKER };

export const METRICS = {
  cfn_requests_total: {
    type: 'counter',
    help: 'Invocations by mode and outcome.',
    labels: { mode: MODES, outcome: OUTCOMES },
  },
  cfn_request_seconds: {
    type: 'histogram',
    help: 'Time of an invocation, from its first byte to its last.',
    labels: { mode: MODES },
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  },
  cfn_admissions_total: {
    type: 'counter',
    help: 'Challenges to workers by outcome.',
    labels: { outcome: OUTCOMES },
  },
  cfn_receipts_total: {
    type: 'counter',
    help: 'Receipts of workers by outcome.',
    labels: { outcome: ['ok', 'collected', 'missing', 'invalid'] },
  },
  cfn_receipt_gaps_total: {
    type: 'counter',
    help: 'Receipts that are missing in the chains of their workers.',
    labels: {},
  },
  cfn_loads_total: {
    type: 'counter',
    help: 'Function versions that workers were asked to load, by outcome.',
    labels: { outcome: OUTCOMES },
  },
  cfn_requests_shed_total: {
    type: 'counter',
    help: 'Requests turned away because all workers were at their limit.',
    labels: {},
  },
  cfn_rollouts_stopped_total: {
    type: 'counter',
    help: 'Roll-outs that stopped themselves, by reason.',
    labels: { reason: ['share', 'errors'] },
  },
  cfn_workers: { type: 'gauge', help: 'Workers under a lease.', labels: {} },
  cfn_queue_depth: { type: 'gauge', help: 'Requests that wait at this gateway for a worker.', labels: {} },
  cfn_workers_inflight: { type: 'gauge', help: 'Requests under way on the admitted workers.', labels: {} },
  cfn_workers_capacity: { type: 'gauge', help: 'Requests that the admitted workers take at once.', labels: {} },
  // What workers say of themselves, over the attested channel.
  cfn_worker_requests_total: {
    type: 'counter',
    help: 'Invocations that a worker ran, by outcome.',
    labels: { ...ofWorker, outcome: OUTCOMES },
  },
  cfn_worker_engine_seconds_total: { type: 'counter', help: 'Time of models, summed.', labels: ofWorker },
  cfn_worker_engine_calls_total: { type: 'counter', help: 'Runs of models.', labels: ofWorker },
  cfn_worker_wipes_total: {
    type: 'counter',
    help: 'Invocations whose isolate was disposed of, by whether the sandbox said so.',
    labels: { ...ofWorker, stated: ['yes', 'no'] },
  },
  cfn_worker_wipe_seconds_total: {
    type: 'counter',
    help: 'Time from the last piece of an answer to the word that it was wiped, summed.',
    labels: ofWorker,
  },
  cfn_worker_sandboxes: { type: 'gauge', help: 'Sandbox processes that serve a function.', labels: ofWorker },
  cfn_worker_engines: { type: 'gauge', help: 'Engine processes that hold weights.', labels: ofWorker },
  cfn_worker_leases: { type: 'gauge', help: 'Live leases on keys of models.', labels: ofWorker },
  cfn_worker_memory_bytes: {
    type: 'gauge',
    help: 'Resident memory of the agent, in steps of 16 MiB.',
    labels: ofWorker,
  },
} as const satisfies Readonly<Record<`cfn_${string}`, MetricDefinition>>;
export type MetricName = keyof typeof METRICS;

/** Spans of a trace, with their attributes. Numbers are times. */
export const SPANS = {
  'cfn.request': {
    'cfn.mode': MODES,
    'cfn.outcome': OUTCOMES,
    'cfn.request_id': /^[0-9a-f]{32}$/,
  },
  'cfn.route': {},
  'cfn.worker': { 'cfn.worker_id': WORKER },
  // Told by the worker.
  'cfn.worker.open': {},
  'cfn.worker.start': {},
  'cfn.worker.run': { 'cfn.engine_ms': 'number' },
  'cfn.worker.wipe': {},
} as const satisfies Readonly<Record<`cfn.${string}`, Readonly<Record<string, LabelValues | 'number'>>>>;
export type SpanName = keyof typeof SPANS;

/** Whether a label or an attribute may have this value. */
export function isListed(values: LabelValues | 'number', value: unknown): boolean {
  if (values === 'number') return typeof value === 'number' && Number.isFinite(value) && value >= 0;
  return typeof value === 'string' && (values instanceof RegExp ? values.test(value) : values.includes(value));
}

/** A worker as a label. */
export const workerLabel = (workerId: string): string => workerId.slice(0, 12);
