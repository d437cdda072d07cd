import { refuse } from '../../evidence/reasons.ts';
import { parseTdxQuote } from '../../evidence/tdx.ts';
import type { TpmEvidence } from '../../evidence/tpm-evidence-json.ts';
import { parseCertificate, type Certificate } from '../../evidence/x509.ts';
import { amdAuthorities } from '../amd/authorities.ts';
import { verifySnpReport } from '../amd/verify.ts';
import { appraiseTpm, type TpmClaims } from '../appraisal/tpm.ts';
import { verifyTdx } from '../intel/verify.ts';
import type { AzureHardware } from '../tpm/azure.ts';
import type { Part } from './appraise-inputs.ts';
import type { Gathered } from './gather.ts';
import { appraiseTee, bringsHardware, certificatesOf, crlsOf } from './tees.ts';

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

/** What becomes of the hardware's report below a paravisor: all of the policy's demands, or only that a genuine platform made it. */
function hardwareVerifier(evidence: TpmEvidence, part: Part): HardwareVerifier {
  const { policy, findings, now } = part;
  const { tpm, tee } = policy;
  const demand = 'notRequired' in tpm ? 'required' : tpm.hardware;
  const vcek = evidence.kind === 'azure-snp' ? parseCertificate(evidence.vcek) : undefined;
  if (demand !== 'required') {
    if (evidence.kind === 'tpm-quote' || evidence.kind === 'tpm') return demand;
    return async (hardware) => {
      if (hardware.kind === 'tdx') await verifyTdx({ quote: hardware.quote, collateral: demand, now }, findings);
      else if (vcek !== undefined) await verifyBelow(hardware.report, withAuthorities(vcek, part.gathered), part);
      findings.skip('hardware: TCB and configuration', demand.notChecked);
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
      vcek === undefined ? [] : withAuthorities(vcek, part.gathered),
    );
  };
}

/** Azure's evidence brings a VCEK alone. AMD's authorities come from elsewhere in the inputs, or from those that we ship. */
function withAuthorities(vcek: Certificate, gathered: Gathered): Certificate[] {
  const supplied = certificatesOf(gathered, 'amd').some(({ isCa }) => isCa);
  return [vcek, ...(supplied ? [] : amdAuthorities())];
}

/** That a genuine processor made the report, at the TCB that it reports; what of that is acceptable, the policy leaves open. */
async function verifyBelow(report: Uint8Array, own: readonly Certificate[], part: Part): Promise<void> {
  const { gathered, findings, now } = part;
  const revocation = { notChecked: 'no CRL was given' };
  const certificates = [...own, ...certificatesOf(gathered, 'amd')];
  await verifySnpReport({ report, certificates, crls: crlsOf(gathered, 'amd'), revocation, now }, findings);
}
