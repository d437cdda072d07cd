import { equalBytes } from '../../../proto/index.ts';
import { parseAmdLeaf } from '../../evidence/amd-certificate.ts';
import { isOfChip } from '../../evidence/amd-endorsements.ts';
import { refuse } from '../../evidence/reasons.ts';
import { parseTdxQuote } from '../../evidence/tdx.ts';
import { parseSnpReport } from '../../evidence/snp.ts';
import type { TpmEvidence } from '../../evidence/tpm-evidence-json.ts';
import { parseCertificate, type Certificate } from '../../evidence/x509.ts';
import { isReportSigned } from '../amd/signature.ts';
import { appraiseTpm, type TpmClaims } from '../appraisal/tpm.ts';
import type { Findings } from '../findings.ts';
import { verifyTdx } from '../intel/verify.ts';
import type { AzureHardware } from '../tpm/azure.ts';
import type { Part } from './appraise-inputs.ts';
import { appraiseTee, bringsHardware, certificatesOf } from './tees.ts';

export interface AppraisedTpm {
  readonly claims: TpmClaims;
  readonly evidence: TpmEvidence;
}

/** TPM quotes, with the hardware's report below them where they bring one. */
export async function appraiseTpms(part: Part): Promise<AppraisedTpm[]> {
  const { gathered, policy, nonce, now, findings } = part;
  const { tpm } = policy;
  if ('notRequired' in tpm) {
    findings.skip('TPM', tpm.notRequired);
    return [];
  }
  if (gathered.tpm.length === 0)
    await findings.check('TPM', () => refuse('collateral/missing', 'there is no TPM quote with its registers'));
  const appraised: AppraisedTpm[] = [];
  for (const evidence of gathered.tpm) {
    if (tpm.hardware === 'required' && !bringsHardware(evidence, gathered))
      await findings.check('hardware', () =>
        refuse('collateral/missing', "the policy demands the hardware's report below the TPM, and there is none"),
      );
    const claims = await appraiseTpm(
      {
        evidence,
        hcl: gathered.hcl[0],
        tdQuote: gathered.tdxQuotes.slice(0, 1).map(parseTdxQuote)[0],
        certificates: certificatesOf(gathered, 'other'),
        nonce,
        policy: tpm,
        verifyHardware: hardwareVerifier(evidence, part),
        now,
      },
      findings,
    );
    appraised.push({ claims, evidence });
  }
  return appraised;
}

type HardwareVerifier = ((hardware: AzureHardware) => Promise<void>) | { readonly notChecked: string };

/** What becomes of the hardware's report below a paravisor: all of the policy's demands, or what can be told without a vendor's chain. */
function hardwareVerifier(evidence: TpmEvidence, part: Part): HardwareVerifier {
  const { policy, findings, now } = part;
  const { tpm, tee } = policy;
  const demand = 'notRequired' in tpm ? 'required' : tpm.hardware;
  const vcek = evidence.kind === 'azure-snp' ? parseCertificate(evidence.vcek) : undefined;
  if (demand !== 'required') {
    if (evidence.kind === 'tpm-quote' || evidence.kind === 'tpm') return demand;
    return async (hardware) => {
      if (hardware.kind === 'tdx') await verifyTdx({ quote: hardware.quote, collateral: demand, now }, findings);
      else await checkOwnSignature(hardware.report, vcek, findings);
      findings.skip('hardware: vendor and TCB', demand.notChecked);
    };
  }
  return async (hardware) => {
    const isKind = await findings.check('TEE kind', () => {
      if (tee.kind !== hardware.kind)
        refuse('policy/tee-kind', `the paravisor's report is of ${hardware.kind}, the policy accepts ${tee.kind} only`);
    });
    if (!isKind) return;
    const quote = 'tdQuote' in evidence ? evidence.tdQuote : part.gathered.tdxQuotes[0];
    await appraiseTee(
      hardware.kind === 'snp' ? hardware.report : (quote ?? new Uint8Array()),
      part,
      vcek === undefined ? [] : [vcek],
    );
  };
}

/** The certificate beside a report must at least be the one that signed it, and of that chip; whose it is, its chain would tell. */
async function checkOwnSignature(report: Uint8Array, vcek: Certificate | undefined, findings: Findings): Promise<void> {
  if (vcek === undefined) return;
  const parsed = parseSnpReport(report);
  const { tcb, hardwareId } = parseAmdLeaf(vcek);
  await findings.check('hardware: report signature', async () => {
    if (!(await isReportSigned(parsed, vcek.publicKey)))
      refuse('evidence/report-signature', 'the certificate beside the report did not sign it');
  });
  await findings.check('hardware: chip id and patch levels', () => {
    if (hardwareId === undefined || !isOfChip(hardwareId, parsed))
      refuse('evidence/chip-id-mismatch', 'the certificate beside the report is of another chip');
    if (!equalBytes(tcb, parsed.reportedTcb)) refuse('evidence/spl-mismatch', 'the certificate is of another TCB');
  });
}
