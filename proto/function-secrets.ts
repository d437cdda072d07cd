import { z } from 'zod';
import { ByteReader, fromUtf8, utf8 } from './bytes.ts';
import { CfnError } from './errors.ts';
import { evidenceSchema } from './evidence.ts';
import { frame, sha256, sha256Hex } from './hash.ts';
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
 * the KMS with info {@link secretInfo}. They are released to versions that this author signed, and with `version` to that one alone.
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
  /** Raw X25519 key of the sandbox, base64url; fresh, bound through {@link secretsNonce}. */
  wrappingKey: releaseRequestSchema.shape.wrappingKey,
  evidence: evidenceSchema,
  answerKey: releaseRequestSchema.shape.answerKey,
  /** Renewal of this lease: a new appraisal, no secrets in the answer. */
  renew: z.string().optional(),
});
export type SecretsRequest = z.infer<typeof secretsRequestSchema>;

export const secretsReplySchema = releaseReplySchema.omit({ wrappedKey: true }).extend({
  /** What {@link encodeSecrets} gives, sealed with info {@link wrappedSecretsInfo}. Absent in a renewal. */
  wrapped: sealedOf(SECRETS_MAX * (SECRET_BYTES_MAX + 100)).optional(),
});
export type SecretsReply = z.infer<typeof secretsReplySchema>;

/** The secrets of one function in one namespace; leases and audit entries name them by it where they name a model otherwise. */
export const secretsId = (owner: string, tenant: string, name: string): Promise<string> =>
  sha256Hex(frame('cfn/function-secrets/v1', utf8(owner), utf8(tenant), utf8(name)));
/** HPKE info of a secret's value, sealed to the KMS. @param id as {@link secretsId} */
export const secretInfo = (id: string, name: string): Uint8Array<ArrayBuffer> =>
  frame('cfn/function-secret/v1', utf8(id), utf8(name));
/** HPKE info of secrets wrapped by the KMS to a sandbox. */
export const wrappedSecretsInfo = (version: string, challenge: string): Uint8Array<ArrayBuffer> =>
  frame('cfn/wrapped-secrets/v1', utf8(version), utf8(challenge));
/** The nonce of evidence for a release of secrets, 32 bytes. Of another kind than that for a model, so that neither serves as the other. */
export const secretsNonce = (
  challenge: string,
  wrappingKey: string,
  functionManifest: string,
): Promise<Uint8Array<ArrayBuffer>> =>
  sha256(frame('cfn/kms-secrets-nonce/v1', utf8(challenge), utf8(wrappingKey), utf8(functionManifest)));

const SECRETS_LABEL = 'cfn/secrets/v1';

/** Values by name, as bytes that can be overwritten: strings could not be. To be overwritten by the caller. */
export function encodeSecrets(values: ReadonlyMap<string, Uint8Array>): Uint8Array<ArrayBuffer> {
  return frame(SECRETS_LABEL, ...[...values].flatMap(([name, value]) => [utf8(name), value]));
}

/** @throws {CfnError} `CFN_INPUT_INVALID` */
export function decodeSecrets(bytes: Uint8Array): Record<string, string> {
  const reader = new ByteReader(bytes, 'CFN_INPUT_INVALID');
  const next = (what: string): string => fromUtf8(reader.take(reader.u32be(what), what));
  if (next('label') !== SECRETS_LABEL) throw new CfnError('CFN_INPUT_INVALID', 'these are no secrets');
  const secrets: Record<string, string> = {};
  while (reader.remaining > 0) secrets[next('name')] = next('value');
  return secrets;
}
