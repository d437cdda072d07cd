import { Counter, Gauge, Histogram, Registry as Instruments } from 'prom-client';
import { ERRORS } from '../proto/index.ts';
import type { ReceiptOutcome } from './ledger.ts';
import type { Registry } from './registry.ts';
import {
  isListed,
  METRICS,
  type MetricDefinition,
  type MetricName,
  type Mode,
  type Outcome,
} from './telemetry-names.ts';

/** What is counted, in Prometheus' text format 0.0.4. Names and label values come from `telemetry-names.ts`, never from a request. */
export interface Metrics {
  /** A request is over; `seconds` from its first byte to its last. */
  invoked(mode: Mode, outcome: Outcome, seconds: number): void;
  admission(outcome: Outcome): void;
  receipt(outcome: ReceiptOutcome): void;
  /** Receipts that are missing in the chains of their workers. */
  receiptGap(receipts: number): void;
  /** A worker was asked to load a function version. */
  load(outcome: Outcome): void;
  /** A request was turned away because all workers were at their limit. */
  shed(): void;
  rolloutStopped(reason: 'share' | 'errors'): void;
  text(): Promise<string>;
}

/** One value of a metric that is read when somebody asks. */
export interface Sample {
  readonly name: MetricName;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What an autoscaler reads: how much there is to do, and how much can be done. */
export interface Gauges {
  /** Requests that wait for a worker. */
  readonly waiting: number;
  /** Requests under way on admitted workers, over all gateways as far as workers say so, and how many there may be. */
  readonly inflight: number;
  readonly capacity: number;
}

/** @param told what workers say, as it is when somebody asks */
export function metrics(
  registry: Pick<Registry, 'live'>,
  gauges: () => Gauges,
  told: () => Iterable<Sample> = () => [],
): Metrics {
  const register = new Instruments();
  const of = (name: MetricName) => ({ name, help: METRICS[name].help, registers: [register], ...shapeOf(name) });
  const requests = new Counter(of('cfn_requests_total'));
  const seconds = new Histogram(of('cfn_request_seconds'));
  const admissions = new Counter(of('cfn_admissions_total'));
  const receipts = new Counter(of('cfn_receipts_total'));
  const gaps = new Counter(of('cfn_receipt_gaps_total'));
  const loads = new Counter(of('cfn_loads_total'));
  const shed = new Counter(of('cfn_requests_shed_total'));
  const rolloutsStopped = new Counter(of('cfn_rollouts_stopped_total'));
  new Gauge({
    ...of('cfn_workers'),
    collect() {
      this.set(registry.live().length);
    },
  });
  const gauge = (name: MetricName, value: (gauges: Gauges) => number): void =>
    void new Gauge({
      ...of(name),
      collect() {
        this.set(value(gauges()));
      },
    });
  gauge('cfn_queue_depth', ({ waiting }) => waiting);
  gauge('cfn_workers_inflight', ({ inflight }) => inflight);
  gauge('cfn_workers_capacity', ({ capacity }) => capacity);
  const known = (outcome: Outcome): Outcome =>
    outcome === 'ok' || Object.hasOwn(ERRORS, outcome) ? outcome : 'CFN_INTERNAL';

  return {
    invoked(mode, outcome, took) {
      requests.inc({ mode, outcome: known(outcome) });
      seconds.observe({ mode }, took);
    },
    admission: (outcome) => admissions.inc({ outcome: known(outcome) }),
    receipt: (outcome) => receipts.inc({ outcome }),
    receiptGap: (missing) => gaps.inc(missing),
    load: (outcome) => loads.inc({ outcome: known(outcome) }),
    shed: () => shed.inc(),
    rolloutStopped: (reason) => rolloutsStopped.inc({ reason }),
    text: async () => `${await register.metrics()}${textOf(told())}`,
  };
}

function shapeOf(name: MetricName): { labelNames: string[]; buckets?: number[] } {
  const { labels, buckets }: MetricDefinition = METRICS[name];
  return { labelNames: Object.keys(labels), ...(buckets && { buckets: [...buckets] }) };
}

/** Counters that others count have no `inc`: they are written as they were told. What is not on the list is left out. */
function textOf(samples: Iterable<Sample>): string {
  const lines = new Map<MetricName, string[]>();
  for (const { name, labels, value } of samples) {
    const { help, type, labels: listed }: MetricDefinition = METRICS[name];
    const entries = Object.entries(labels);
    const isWhole = entries.length === Object.keys(listed).length && Number.isFinite(value);
    if (!isWhole || !entries.every(([label, text]) => isListed(listed[label] ?? [], text))) continue;
    const family = lines.get(name) ?? [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
    family.push(`${name}{${entries.map(([label, text]) => `${label}="${text}"`).join(',')}} ${value}`);
    lines.set(name, family);
  }
  return [...lines.values()].map((family) => `\n${family.join('\n')}\n`).join('');
}
