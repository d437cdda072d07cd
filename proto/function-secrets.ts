import { z } from 'zod';
import { evidenceSchema } from './evidence.ts';
import { releaseReplySchema, releaseRequestSchema, sealedSchema } from './kms-api.ts';
import { SECRET_BYTES_MAX, SECRETS_MAX } from './limits.ts';
import { digestSchema, secretNameSchema } from './manifest.ts';

/** Characters of `bytes` plaintext bytes, sealed and in base64url, at most. */
const sealedMax = (bytes: number): number => Math.ceil((bytes + 16) / 3) * 4;
const sealedOf = (bytesMax: number) =>
  sealedSchema.extend({
    ciphertext: z
      .string()
      .regex(/^[A-Za-z0-9_-]+$/)
      .max(sealedMax(bytesMax)),
  });

/**
 * PUT /v1/functions/{tenant}/{function}/secrets (owner token): values of some of the function's secrets, all or none. Each is sealed to
 * the KMS with info `secretInfo`. They are released to versions that this author signed, and with `version` to that one alone.
 */
export const putSecretsSchema = z.strictObject({
  author: z.string().min(1).max(100),
  version: digestSchema.optional(),
  /** How long a worker has them without attesting again. */
  leaseMs: z.int().min(1000).max(86_400_000),
  secrets: z
    .record(secretNameSchema, sealedOf(SECRET_BYTES_MAX))
    .refine((secrets) => Object.keys(secrets).length > 0, 'expected one secret at least')
    .refine((secrets) => Object.keys(secrets).length <= SECRETS_MAX, `expected ${SECRETS_MAX} secrets at most`),
});
export type PutSecrets = z.infer<typeof putSecretsSchema>;

/** GET /v1/functions/{tenant}/{function}/secrets (owner token): names, never values. */
export const secretListSchema = z.strictObject({
  secrets: z.array(
    z.strictObject({
      name: secretNameSchema,
      author: z.string(),
      version: digestSchema.optional(),
      leaseMs: z.int(),
      storedAt: z.iso.datetime(),
    }),
  ),
});

/** POST /v1/secrets: a worker asks for the secrets that a function's manifest names. */
export const secretsRequestSchema = z.strictObject({
  challenge: releaseRequestSchema.shape.challenge,
  functionManifest: releaseRequestSchema.shape.functionManifest,
  /** Raw X25519 key of the sandbox, base64url; fresh, bound through `secretsNonce`. */
  wrappingKey: releaseRequestSchema.shape.wrappingKey,
  evidence: evidenceSchema,
  answerKey: releaseRequestSchema.shape.answerKey,
  /** Renewal of this lease: a new appraisal, no secrets in the answer. */
  renew: z.string().optional(),
});
export type SecretsRequest = z.infer<typeof secretsRequestSchema>;

export const secretsReplySchema = releaseReplySchema.omit({ wrappedKey: true }).extend({
  /** What `encodeSecrets` gives, sealed with info `wrappedSecretsInfo`. Absent in a renewal. */
  wrapped: sealedOf(SECRETS_MAX * (SECRET_BYTES_MAX + 100)).optional(),
});
export type SecretsReply = z.infer<typeof secretsReplySchema>;
