import { z } from 'zod';
import { notChecked, reason, references, requiredOr } from './common.ts';

/** Judgement of NVIDIA's remote attestation service, as a signed token. */
export const tokenSchema = z.strictObject({
  issuer: z.url({ protocol: /^https$/ }),
  /** The service's keys, as a JWKS text that the relying party trusts; or whichever comes with the evidence, and why. */
  keys: z.union([z.strictObject({ jwks: z.string().min(2).max(65_536) }), z.strictObject({ supplied: reason })]),
});
export type TokenPolicy = z.infer<typeof tokenSchema>;

/** A TPM's quote: the PCRs of a virtual or physical machine. */
export const tpmSchema = z.strictObject({
  /** Who vouches for the attestation key: a TEE's report or a certificate. Self-asserted, the quote proves nothing of a platform. */
  attestationKey: z.union([z.literal('endorsed'), z.strictObject({ selfAsserted: reason })]),
  secureBoot: requiredOr,
  /** Reference values by PCR, SHA-256. */
  pcrs: z.union([z.record(z.string().regex(/^(?:[0-9]|1[0-9]|2[0-3])$/), references(32).options[0]), notChecked]),
});
export type TpmPolicy = z.infer<typeof tpmSchema>;
