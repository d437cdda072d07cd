import { toHex } from '../../../proto/index.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { GoldenValue } from '../../evidence/rim.ts';
import type { Measurement } from '../../evidence/spdm.ts';
import type { Findings } from '../findings.ts';

/** What became of the active golden values; indexes are the RIMs', from 0. */
export interface GoldenClaims {
  readonly compared: number;
  readonly matching: number;
  readonly mismatching: readonly number[];
  readonly missing: readonly number[];
  readonly conflicting: readonly number[];
  /** Left out because the report says that they do not apply. */
  readonly skipped: readonly number[];
}

/** NVDEC0's firmware, which is not there when the engine is off. */
export const NVDEC0_INDEX = 35;

/**
 * Compares a report's measurements with all active golden values: index i stands for SPDM block i + 1, any alternative will do, and
 * the size must agree (attestation-formats §4.3).
 */
export function compareGolden(
  measurements: readonly Measurement[],
  sources: readonly (readonly GoldenValue[])[],
  skip: ReadonlySet<number> = new Set(),
): GoldenClaims {
  const reported = new Map(measurements.map(({ index, value }) => [index - 1, value]));
  const all = sources.flat().filter(({ active }) => active);
  const seen = new Set<number>();
  const conflicting = new Set<number>();
  for (const { index } of all) (seen.has(index) ? conflicting : seen).add(index);
  const compared = all.filter(({ index }) => !skip.has(index));
  const missing = compared.filter(({ index }) => !reported.has(index)).map(({ index }) => index);
  const mismatching = compared
    .filter((golden) => {
      const value = reported.get(golden.index);
      return value !== undefined && !matches(golden, value);
    })
    .map(({ index }) => index);
  return {
    compared: compared.length,
    matching: compared.length - missing.length - mismatching.length,
    mismatching: sorted(mismatching),
    missing: sorted(missing),
    conflicting: sorted([...conflicting]),
    skipped: sorted(all.filter(({ index }) => skip.has(index)).map(({ index }) => index)),
  };
}

/** Refuses all that {@link compareGolden} found, each kind as its own finding. */
export async function requireGolden(golden: GoldenClaims, name: string, findings: Findings): Promise<boolean> {
  const { compared, mismatching, missing, conflicting, skipped } = golden;
  const single = await findings.check(`${name} reference indexes`, () => {
    if (conflicting.length > 0)
      refuse('reference/conflict', `${name}: two RIMs have values for index ${conflicting.join(', ')}`);
    if (missing.length > 0)
      refuse('reference/missing-index', `${name} reports no measurement for RIM index ${missing.join(', ')}`);
  });
  const same = await findings.check(`${name} measurements`, () => {
    if (compared === 0) refuse('collateral/rim-empty', `${name}: there is no reference value to compare with`);
    if (mismatching.length > 0)
      refuse('reference/mismatch', `${name}: measurements differ at RIM index ${mismatching.join(', ')}`);
  });
  if (skipped.length > 0)
    findings.skip(`${name} measurement ${skipped.join(', ')}`, 'the report says that NVDEC0 is off');
  return single && same;
}

function matches({ alternatives, size }: GoldenValue, value: Uint8Array): boolean {
  return value.length === size && alternatives.includes(toHex(value));
}

function sorted(indexes: readonly number[]): number[] {
  return [...new Set(indexes)].sort((a, b) => a - b);
}
