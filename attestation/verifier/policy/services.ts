import { z } from 'zod';
import { parseJwks } from '../../evidence/jwks.ts';
import { Refusal } from '../../evidence/reasons.ts';
import { notChecked, reason, references, requiredOr } from './common.ts';

/** Judgement of NVIDIA's remote attestation service, as a signed token. */
function isKeySet(text: string): boolean {
  try {
    return parseJwks(text).length > 0;
  } catch (error) {
    if (error instanceof Refusal) return false;
    throw error;
  }
}

export const tokenSchema = z.strictObject({
  issuer: z.url({ protocol: /^https$/ }),
  /**
   * Who vouches for the service's keys: NVIDIA's pinned intermediates, by the certificates beside the keys; a JWKS text that the relying
   * party trusts; or nobody, where whatever comes with the evidence is taken, and why.
   */
  keys: z.union([
    z.literal('certified'),
    z.strictObject({ jwks: z.string().max(65_536).refine(isKeySet, 'expected a JSON Web Key Set with a key') }),
    z.strictObject({ supplied: reason }),
  ]),
});
export type TokenPolicy = z.infer<typeof tokenSchema>;

/** A TPM's quote: the PCRs of a virtual or physical machine. */
export const tpmSchema = z.strictObject({
  /** Who vouches for the attestation key: a TEE's report or a certificate. Self-asserted, the quote proves nothing of a platform. */
  attestationKey: z.union([z.literal('endorsed'), z.strictObject({ selfAsserted: reason })]),
  /** The hardware's report below a paravisor, under the policy's `tee`. Left out, only what needs no vendor's endorsement is checked. */
  hardware: requiredOr,
  secureBoot: requiredOr,
  /** Reference values by PCR, SHA-256. */
  pcrs: z.union([z.record(z.string().regex(/^(?:[0-9]|1[0-9]|2[0-3])$/), references(32).options[0]), notChecked]),
});
export type TpmPolicy = z.infer<typeof tpmSchema>;
