import {
  appraiseInputs,
  gather,
  type AppraisalPolicy,
  type Gathered,
  type InputsAppraisal,
} from '../../attestation/verifier/index.ts';
import { CfnError } from '../../proto/index.ts';
import { readInputs, type Case } from './cases.ts';
import { prepare } from './conventions.ts';
import { fieldDifferences } from './fields.ts';
import { defaultPolicy, lenientPolicy } from './policies.ts';

export interface CaseResult {
  readonly expect: Case['expect'];
  /** What the verifier said under the default policy. */
  readonly outcome: 'accept' | 'reject';
  /** Stable reasons of the refusal; of inputs that could not be parsed, the error's. */
  readonly reasons: readonly string[];
  /** How it differs from what the case expects; empty when it does not. */
  readonly differences: readonly string[];
}

/** What one policy makes of the inputs; a parse failure is a refusal. */
type Verdict =
  | { readonly kind: 'appraised'; readonly appraisal: InputsAppraisal }
  | { readonly kind: 'malformed'; readonly error: CfnError };

/** Runs one case of a folder. Anything but a CfnError is a bug of the verifier, and goes on. */
export async function runCase(folder: string, subject: Case): Promise<CaseResult> {
  let inputs;
  try {
    inputs = await readInputs(folder, subject.inputs);
  } catch (error) {
    if (!(error instanceof CfnError)) throw error;
    return { expect: subject.expect, outcome: 'reject', reasons: [], differences: [error.message] };
  }
  const prepared = prepare(subject, inputs);
  const bytes = prepared.inputs.map((input) => input.bytes);
  const appraise = (policyOf: (gathered: Gathered) => AppraisalPolicy): Promise<Verdict> =>
    judge(bytes, policyOf, { now: new Date(subject.now), ...(prepared.nonce && { nonce: prepared.nonce }) });

  const verdict = await appraise(defaultPolicy);
  const outcome = isAccepted(verdict) ? 'accept' : 'reject';
  const reasons = reasonsOf(verdict);
  const differences: string[] = [];
  const expected = subject.expect === 'accept' ? 'accept' : 'reject';
  if (outcome !== expected) differences.push(`expected ${subject.expect}, got ${outcome} ${reasons.join(', ')}`.trim());
  if (subject.expect === 'reject-by-default') {
    const lenient = await appraise(lenientPolicy);
    if (!isAccepted(lenient))
      differences.push(`a policy that allows it refuses, too: ${reasonsOf(lenient).join(', ')}`);
  }
  if (verdict.kind === 'appraised') differences.push(...fieldDifferences(subject, verdict.appraisal.claims));
  return { expect: subject.expect, outcome, reasons, differences };
}

async function judge(
  inputs: readonly Uint8Array[],
  policyOf: (gathered: Gathered) => AppraisalPolicy,
  options: { readonly now: Date; readonly nonce?: Uint8Array },
): Promise<Verdict> {
  try {
    const policy = policyOf(gather(inputs));
    return { kind: 'appraised', appraisal: await appraiseInputs(inputs, { policy, ...options }) };
  } catch (error) {
    if (error instanceof CfnError) return { kind: 'malformed', error };
    throw error;
  }
}

function isAccepted(verdict: Verdict): boolean {
  return verdict.kind === 'appraised' && verdict.appraisal.accepted;
}

function reasonsOf(verdict: Verdict): string[] {
  if (verdict.kind === 'malformed') {
    const { error } = verdict;
    return ['reason' in error && typeof error.reason === 'string' ? error.reason : error.code];
  }
  return verdict.appraisal.findings.flatMap((finding) => (finding.outcome === 'failed' ? [finding.reason] : []));
}
