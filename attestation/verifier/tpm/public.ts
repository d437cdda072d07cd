import { refuse } from '../../evidence/reasons.ts';
import { TPM_OBJECT, type TpmPublic } from '../../evidence/tpm-public.ts';
import type { Findings } from '../findings.ts';

/**
 * Checks that a TPM key is an attestation key: made by its TPM, never leaving it, and signing nothing but what the TPM itself made. A
 * key without those could sign a forged quote. Who vouches for the public area is another matter.
 */
export async function appraiseAttestationKey({ attributes }: TpmPublic, findings: Findings): Promise<void> {
  await findings.check('attestation key attributes', () => {
    const { fixedTpm, fixedParent, sensitiveDataOrigin, restricted, sign, decrypt } = TPM_OBJECT;
    const required = fixedTpm | fixedParent | sensitiveDataOrigin | restricted | sign;
    if ((attributes & required) !== required || (attributes & decrypt) !== 0)
      refuse('policy/attributes', `attributes ${attributes.toString(16)} are not those of an attestation key`);
  });
}
