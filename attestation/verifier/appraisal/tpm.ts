import type { HclReport } from '../../evidence/azure-hcl.ts';
import { refuse } from '../../evidence/reasons.ts';
import { parseTdxQuote, type TdxQuote } from '../../evidence/tdx.ts';
import type { TpmEvidence } from '../../evidence/tpm-evidence-json.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { issuersOf } from '../pki/issuers.ts';
import { isNotChecked } from '../policy/common.ts';
import type { TpmPolicy } from '../policy/services.ts';
import { verifyAkCertificate, type AkCertificateClaims } from '../tpm/ak-certificate.ts';
import { verifyAzureVtpm, type AzureHardware, type AzureVtpmClaims } from '../tpm/azure.ts';
import type { PcrReference } from '../tpm/pcr-references.ts';
import { appraiseAttestationKey } from '../tpm/public.ts';
import { verifyTpmQuote, type TpmQuoteClaims } from '../tpm/quote.ts';

export interface TpmInput {
  readonly evidence: TpmEvidence;
  /** A paravisor's report that came beside a quote. */
  readonly hcl: HclReport | undefined;
  /** A TD quote that came beside a quote, for a paravisor's report of TDX. */
  readonly tdQuote: TdxQuote | undefined;
  /** Certificates of attestation keys and their issuers, in any order. */
  readonly certificates: readonly Certificate[];
  readonly nonce: Uint8Array | { readonly notChecked: string };
  readonly policy: TpmPolicy;
  /** Verifies the hardware's evidence under the paravisor; or why that is not done. */
  readonly verifyHardware: ((hardware: AzureHardware) => Promise<void>) | { readonly notChecked: string };
  readonly now: Date;
}

/** What TPM evidence says; to be believed only when no check failed. */
export type TpmClaims =
  | { readonly kind: 'azure'; readonly azure: AzureVtpmClaims }
  | {
      readonly kind: 'tpm';
      readonly tpm: TpmQuoteClaims;
      readonly attestationKey: AkCertificateClaims | 'self-asserted';
    };

/** Verifies a TPM's quote, who vouches for its key, and compares its registers with the policy. */
export async function appraiseTpm(input: TpmInput, findings: Findings): Promise<TpmClaims> {
  const { evidence, policy, nonce } = input;
  const references = referencesOf(policy);
  const hcl = 'hcl' in evidence ? evidence.hcl : evidence.kind === 'tpm-quote' ? input.hcl : undefined;
  if (hcl !== undefined) {
    const { verifyHardware } = input;
    const tdQuote = evidence.kind === 'azure-tdx' ? parseTdxQuote(evidence.tdQuote) : input.tdQuote;
    const userDataIsNonce = 'version' in evidence && evidence.version === 2;
    const { secureBoot } = policy;
    const { quote } = evidence;
    const azure = await verifyAzureVtpm(
      { hcl, quote, tdQuote, nonce, userDataIsNonce, references, secureBoot, verifyHardware },
      findings,
    );
    return { kind: 'azure', azure };
  }
  const [leaf] = input.certificates.filter(({ isCa }) => !isCa);
  const claimed = evidence.kind === 'tpm' ? evidence.attestationKey : leaf?.publicKey;
  const attestationKey = claimed !== undefined && 'publicKey' in claimed ? claimed.publicKey : claimed;
  if (attestationKey === undefined)
    refuse('collateral/missing', 'a TPM quote alone: no report or certificate names its attestation key');
  const tpm = await verifyTpmQuote({ evidence: evidence.quote, attestationKey, nonce, references }, findings);
  if (claimed !== undefined && 'attributes' in claimed) await appraiseAttestationKey(claimed, findings);
  if (policy.secureBoot !== 'required') findings.skip('secure boot', policy.secureBoot.notChecked);
  else
    await findings.check('secure boot', () => refuse('policy/measurement', 'no report says whether secure boot is on'));
  if (leaf !== undefined) {
    const certified = await verifyAkCertificate(
      {
        certificate: leaf,
        issuers: issuersOf(leaf, input.certificates),
        attestationKey,
        now: input.now,
        revocation: { notChecked: 'the clouds publish no CRL of attestation keys' },
      },
      findings,
    );
    return { kind: 'tpm', tpm, attestationKey: certified };
  }
  if (policy.attestationKey === 'endorsed')
    await findings.check('TPM attestation key', () =>
      refuse('collateral/missing', 'nobody but the attester vouches for the attestation key'),
    );
  else findings.skip('TPM attestation key', policy.attestationKey.selfAsserted);
  return { kind: 'tpm', tpm, attestationKey: 'self-asserted' };
}

function referencesOf({ pcrs }: TpmPolicy): readonly PcrReference[] | { readonly notChecked: string } {
  if (isNotChecked(pcrs)) return pcrs;
  return Object.entries(pcrs).map(([index, accepted]) => ({ hash: 'SHA-256', index: Number(index), accepted }));
}
