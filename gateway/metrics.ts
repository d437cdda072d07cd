import { Counter, Gauge, Histogram, Registry as Instruments } from 'prom-client';
import { ERRORS } from '../proto/index.ts';
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
  receipt(outcome: 'ok' | 'missing' | 'invalid'): void;
  text(): Promise<string>;
}

/** One value of a metric that is read when somebody asks. */
export interface Sample {
  readonly name: MetricName;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** @param told what workers say, as it is when somebody asks */
export function metrics(registry: Pick<Registry, 'live'>, told: () => Iterable<Sample> = () => []): Metrics {
  const register = new Instruments();
  const of = (name: MetricName) => ({ name, help: METRICS[name].help, registers: [register], ...shapeOf(name) });
  const requests = new Counter(of('cfn_requests_total'));
  const seconds = new Histogram(of('cfn_request_seconds'));
  const admissions = new Counter(of('cfn_admissions_total'));
  const receipts = new Counter(of('cfn_receipts_total'));
  new Gauge({
    ...of('cfn_workers'),
    collect() {
      this.set(registry.live().length);
    },
  });
  const known = (outcome: Outcome): Outcome =>
    outcome === 'ok' || Object.hasOwn(ERRORS, outcome) ? outcome : 'CFN_INTERNAL';

  return {
    invoked(mode, outcome, took) {
      requests.inc({ mode, outcome: known(outcome) });
      seconds.observe({ mode }, took);
    },
    admission: (outcome) => admissions.inc({ outcome: known(outcome) }),
    receipt: (outcome) => receipts.inc({ outcome }),
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
