import { findLeaf } from '../../evidence/amd-endorsements.ts';
import { refuse } from '../../evidence/reasons.ts';
import { parseSnpReport, type SnpReport } from '../../evidence/snp.ts';
import { appraiseSnpReport } from '../amd/appraise.ts';
import type { SnpClaims } from '../amd/claims.ts';
import { isReportSigned } from '../amd/signature.ts';
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

/**
 * Compares with the policy what can be compared before AMD's certificates are there. Where the chip's own came along, the report must be
 * signed by it; whose certificate that is, is not looked at, so nothing that passes is proven.
 */
export async function appraiseSnpClaims(
  { report: bytes, certificates, policy }: Pick<SnpInput, 'report' | 'certificates' | 'policy'>,
  findings: Findings,
): Promise<SnpReport> {
  const report = parseSnpReport(bytes);
  const leaf = findLeaf(certificates, report);
  const product = report.product ?? leaf?.product;
  const notChecked = { notChecked: 'only its certificate tells' };
  const ofProduct = {
    products: notChecked,
    reportedTcbMin: notChecked,
    committedTcbMin: notChecked,
    launchTcbMin: notChecked,
  };
  await appraiseSnpReport(
    { report, product, leaf },
    { ...policy, ...(product === undefined && ofProduct), ...(leaf === undefined && { cspId: notChecked }) },
    findings,
  );
  if (leaf !== undefined)
    await findings.check('report signature', async () => {
      if (!(await isReportSigned(report, leaf.certificate.publicKey)))
        refuse('evidence/report-signature', `the ${leaf.kind} that came along did not sign this report`);
    });
  return report;
}
