import { ERRORS, type ErrorCode } from '../proto/index.ts';
import type { ReceiptOutcome } from './ledger.ts';
import type { Registry } from './registry.ts';

export type Mode = 'sealed' | 'open';
export type Outcome = 'ok' | ErrorCode;

/**
 * The fixed list of metrics, in Prometheus' text format 0.0.4. Label values come from closed sets, never from a request
 * (design §9).
 */
export interface Metrics {
  /** A request is over; `seconds` from its first byte to its last. */
  invoked(mode: Mode, outcome: Outcome, seconds: number): void;
  admission(outcome: Outcome): void;
  receipt(outcome: ReceiptOutcome): void;
  /** Receipts that are missing in the chains of their workers. */
  receiptGap(receipts: number): void;
  text(): string;
}

const BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30] as const;

export function metrics(registry: Pick<Registry, 'live'>): Metrics {
  const counters = new Map<string, number>();
  const add = (series: string, by = 1): void => void counters.set(series, (counters.get(series) ?? 0) + by);
  const known = (outcome: Outcome): Outcome =>
    outcome === 'ok' || Object.hasOwn(ERRORS, outcome) ? outcome : 'CFN_INTERNAL';

  return {
    invoked(mode, outcome, seconds) {
      add(`cfn_requests_total{mode="${mode}",outcome="${known(outcome)}"}`);
      for (const bound of BUCKETS)
        if (seconds <= bound) add(`cfn_request_seconds_bucket{mode="${mode}",le="${bound}"}`);
      add(`cfn_request_seconds_bucket{mode="${mode}",le="+Inf"}`);
      add(`cfn_request_seconds_sum{mode="${mode}"}`, seconds);
      add(`cfn_request_seconds_count{mode="${mode}"}`);
    },
    admission: (outcome) => add(`cfn_admissions_total{outcome="${known(outcome)}"}`),
    receiptGap: (receipts) => add('cfn_receipt_gaps_total', receipts),
    receipt: (outcome) => add(`cfn_receipts_total{outcome="${outcome}"}`),
    text() {
      const families: readonly (readonly [name: string, type: string, help: string])[] = [
        ['cfn_requests_total', 'counter', 'Invocations by mode and outcome.'],
        ['cfn_request_seconds', 'histogram', 'Time of an invocation.'],
        ['cfn_admissions_total', 'counter', 'Challenges to workers by outcome.'],
        ['cfn_receipts_total', 'counter', 'Receipts of workers by outcome.'],
        ['cfn_receipt_gaps_total', 'counter', 'Receipts that are missing in the chains of their workers.'],
      ];
      const lines = families.flatMap(([name, type, help]) => [
        `# HELP ${name} ${help}`,
        `# TYPE ${name} ${type}`,
        ...[...counters].filter(([series]) => familyOf(series) === name).map(([series, value]) => `${series} ${value}`),
      ]);
      lines.push(
        '# HELP cfn_workers Workers under a lease.',
        '# TYPE cfn_workers gauge',
        `cfn_workers ${registry.live().length}`,
      );
      return `${lines.join('\n')}\n`;
    },
  };
}

const familyOf = (series: string): string =>
  series.replace(/\{.*$/, '').replace(/^(cfn_request_seconds)_(bucket|sum|count)$/, '$1');
