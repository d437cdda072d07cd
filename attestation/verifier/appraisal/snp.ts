import { appraiseSnpReport } from '../amd/appraise.ts';
import type { SnpClaims } from '../amd/claims.ts';
import { verifySnpReport, type SnpEvidence } from '../amd/verify.ts';
import type { Findings } from '../findings.ts';
import type { SnpPolicy } from '../policy/tee.ts';

export interface SnpInput extends Pick<SnpEvidence, 'report' | 'certificates' | 'crls' | 'now'> {
  readonly policy: SnpPolicy;
}

/** Verifies a SEV-SNP report and compares it with the policy. Whom it is bound to is looked at elsewhere. */
export async function appraiseSnp({ policy, ...evidence }: SnpInput, findings: Findings): Promise<SnpClaims> {
  const verification = await verifySnpReport({ ...evidence, revocation: policy.revocation }, findings);
  await appraiseSnpReport(verification, policy, findings);
  return verification.claims;
}
