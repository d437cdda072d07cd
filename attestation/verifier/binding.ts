import { equalBytes, toHex } from '../../proto/index.ts';
import { refuse } from '../evidence/reasons.ts';
import type { Findings } from './findings.ts';
import type { ReportDataBinding } from './report-data.ts';

/**
 * How firmly CPU and GPU evidence are tied to each other, from the weakest.
 *
 * - `none`: genuine CPU evidence and somebody else's genuine GPU evidence could be put together.
 * - `same-nonce`: both answer the same challenge. Whoever can reach two machines within its life can still mix them.
 * - `one-report`: the CPU's report covers a digest over all GPU evidence, so the measured guest itself vouches for the GPUs it has.
 */
export const BINDING_LEVELS = ['none', 'same-nonce', 'one-report'] as const;
export type BindingLevel = (typeof BINDING_LEVELS)[number];

/** Parts whose own signatures have been verified. */
export interface BindingParts {
  /** All 64 bytes of the CPU report's data. */
  readonly reportData: Uint8Array;
  readonly expected: ReportDataBinding;
  /** The 32 bytes that every GPU had to answer. */
  readonly gpuNonce: Uint8Array;
  /** What each GPU report answers. */
  readonly gpuNonces: readonly Uint8Array[];
}

/**
 * Decides the level from verified parts. A GPU that answers another nonce may be evidence from long ago, so it counts for nothing,
 * also where the report covers its digest; and without any GPU there is nothing bound.
 */
export async function bindingLevel(parts: BindingParts, findings: Findings): Promise<BindingLevel> {
  const { reportData, expected, gpuNonce, gpuNonces } = parts;
  const bound = await findings.check('binding: report data', () => requireReportData(reportData, expected));
  if (gpuNonces.length === 0) {
    findings.skip('binding: GPU nonce', 'there is no GPU evidence');
    return 'none';
  }
  const fresh = await findings.check('binding: GPU nonce', () => requireNonces(gpuNonces, gpuNonce));
  if (!bound || !fresh) return 'none';
  if (expected.covers.includes('gpu-evidence')) return 'one-report';
  return expected.covers.includes('nonce') ? 'same-nonce' : 'none';
}

/**
 * @throws {Refusal} `binding/level`
 */
export function requireLevel(level: BindingLevel, minimum: BindingLevel): void {
  if (BINDING_LEVELS.indexOf(level) < BINDING_LEVELS.indexOf(minimum))
    refuse('binding/level', `CPU and GPU evidence are bound by ${level}, expected ${minimum}`);
}

/** Compares all bytes, the zeros behind a short digest among them. @throws {Refusal} `binding/report-data` */
export function requireReportData(came: Uint8Array, { scheme, reportData }: ReportDataBinding): void {
  if (reportData.length !== 64 || !equalBytes(came, reportData))
    refuse('binding/report-data', `report data is ${toHex(came)}, expected ${toHex(reportData)} (${scheme})`);
}

function requireNonces(came: readonly Uint8Array[], expected: Uint8Array): void {
  if (expected.length === 0) refuse('binding/nonce-empty', 'no GPU nonce is expected, so any answer would do');
  for (const [index, nonce] of came.entries()) {
    if (!equalBytes(nonce, expected))
      refuse('binding/gpu-nonce', `GPU ${index} answers nonce ${toHex(nonce)}, expected ${toHex(expected)}`);
  }
}
