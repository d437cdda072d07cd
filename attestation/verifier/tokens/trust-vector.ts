import { TRUST_CLAIMS, type TrustClaim, type TrustVector } from '../../evidence/ar4si.ts';
import type { Reason } from '../../evidence/reasons.ts';
import type { FailedFinding, Finding } from '../findings.ts';

type Family = Reason extends infer R ? (R extends `${infer F}/${string}` ? F : never) : never;
type Verdict = readonly [claim: TrustClaim, value: number];

/** What a claim says when the policy had it checked and nothing failed (draft-ietf-rats-ar4si §2.3.4). */
const AFFIRMED: Readonly<Record<TrustClaim, number>> = {
  'instance-identity': 2, // recognised, not compromised
  configuration: 2, // all recognised and approved
  executables: 3, // recognised and approved at boot; what runs later is not measured
  'file-system': 2,
  hardware: 2, // genuine
  'runtime-opaque': 2, // memory is encrypted
  'storage-opaque': 2,
  'sourced-data': 2,
};

const CRYPTO_FAILED = 99;
const UNRECOGNISED_HARDWARE: Verdict = ['hardware', 97];

/** What a failure says, by the family of its reason. */
const FAMILIES: Readonly<Record<Family, Verdict>> = {
  parse: ['hardware', CRYPTO_FAILED],
  certificate: UNRECOGNISED_HARDWARE,
  revocation: UNRECOGNISED_HARDWARE,
  collateral: UNRECOGNISED_HARDWARE,
  evidence: ['hardware', CRYPTO_FAILED],
  tcb: ['hardware', 32], // genuine, with known vulnerabilities
  reference: ['executables', 33], // not recognised
  policy: ['configuration', 96], // unacceptable
  binding: ['instance-identity', 97], // not recognised
  collect: UNRECOGNISED_HARDWARE, // nothing came to appraise
};

/** Where one reason says something else than its family. */
const EXCEPTIONS: Readonly<Partial<Record<Reason, Verdict>>> = {
  'certificate/revoked': ['hardware', 96],
  'evidence/runtime-data-hash': ['instance-identity', CRYPTO_FAILED],
  'evidence/event-log-replay': ['executables', CRYPTO_FAILED],
  'tcb/revoked': ['hardware', 96],
  'tcb/qe-identity': UNRECOGNISED_HARDWARE,
  'tcb/no-level': UNRECOGNISED_HARDWARE,
  'tcb/module-unknown': UNRECOGNISED_HARDWARE,
  'tcb/module-signer': UNRECOGNISED_HARDWARE,
  'tcb/configuration-needed': ['configuration', 32],
  'policy/tee-kind': UNRECOGNISED_HARDWARE,
  'policy/debug': ['runtime-opaque', 96], // memory is visible
  'policy/measurement': ['executables', 33],
  'policy/service-td': ['executables', 33],
  'policy/minimum-version': ['executables', 32],
};

export interface AppraisalOutcome {
  readonly findings: readonly Finding[];
  /** The claims that the policy had checked to the end. What it left out is not affirmed, however well the rest went. */
  readonly covers: readonly TrustClaim[];
  /** A platform that only this machine's own root vouches for is never hardware. */
  readonly simulated: boolean;
}

/** Maps the findings of an appraisal onto AR4SI: each failure worsens the claim it speaks about. */
export function trustVectorOf({ findings, covers, simulated }: AppraisalOutcome): TrustVector {
  const vector: Partial<Record<TrustClaim, number>> = {};
  for (const claim of TRUST_CLAIMS) if (covers.includes(claim)) vector[claim] = AFFIRMED[claim];
  const verdicts = failuresOf(findings).map(({ reason }) => EXCEPTIONS[reason] ?? FAMILIES[familyOf(reason)]);
  for (const [claim, value] of simulated ? [...verdicts, UNRECOGNISED_HARDWARE] : verdicts)
    vector[claim] = Math.max(vector[claim] ?? 0, value);
  return vector;
}

export function failuresOf(findings: readonly Finding[]): FailedFinding[] {
  return findings.filter((finding) => finding.outcome === 'failed');
}

function familyOf(reason: Reason): Family {
  return reason.slice(0, reason.indexOf('/')) as Family;
}
