import { z } from 'zod';
import { frame, sha256 } from './hash.ts';
import { utf8 } from './bytes.ts';
import { evidenceSchema } from './evidence.ts';
import { digestSchema, modelReferenceSchema, nameSchema } from './manifest.ts';

const key32 = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
export const sealedSchema = z.strictObject({
  enc: key32,
  ciphertext: z
    .string()
    .regex(/^[A-Za-z0-9_-]+$/)
    .max(4096),
});
/** HPKE base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; members base64url. */
export type Sealed = z.infer<typeof sealedSchema>;

/** GET /v1/info → the KMS's sealing key (raw X25519), for owners and manifests, and the key of its audit checkpoints (raw Ed25519). */
export const kmsInfoSchema = z.strictObject({ publicKey: key32, auditKey: key32 });

/** PUT /v1/owners/{name}/quotas (administrator): how much one namespace may use. */
export const quotasSchema = z.strictObject({
  models: z.int().nonnegative(),
  grants: z.int().nonnegative(),
  /** Live at once. */
  leases: z.int().nonnegative(),
  /** Releases and renewals. */
  releasesPerMinute: z.int().nonnegative(),
});
export type Quotas = z.infer<typeof quotasSchema>;

/** POST /v1/challenge → single use, lives CHALLENGE_MS. */
export const challengeReplySchema = z.strictObject({ challenge: key32, expiresAt: z.iso.datetime() });

/** POST /v1/release: a worker asks for a model's data key on behalf of one function version. */
export const releaseRequestSchema = z.strictObject({
  challenge: key32,
  model: digestSchema,
  /** The signed manifest (JWS) of the function that will use the model. */
  functionManifest: z.string(),
  /** Raw X25519 key of the engine, base64url; fresh, bound through {@link kmsNonce}. */
  wrappingKey: key32,
  evidence: evidenceSchema,
  /** Renewal of this lease: a new appraisal, no key in the answer. */
  renew: z.string().optional(),
  /** With a renewal: what was used under the lease so far, as the worker states it (`cfn-usage+jwt`). */
  usage: z.string().max(4096).optional(),
  /** Sealed to the KMS: the answer is then proven with it, in the header `cfn-proof`. */
  answerKey: sealedSchema.optional(),
});
export type ReleaseRequest = z.infer<typeof releaseRequestSchema>;

export const releaseReplySchema = z.strictObject({
  lease: z.string(),
  /** Life of the lease from this answer on, in ms; relative, so that a worker's clock cannot stretch it. */
  leaseMs: z.int().positive(),
  /** Digest of the appraisal policy under which it was released. */
  policy: digestSchema,
  /** Where the grant has a limit: invocations under this lease, all in all. */
  allowed: z.int().nonnegative().optional(),
  /** Nothing of the limit is left, nor held by another worker. */
  spent: z.boolean().optional(),
  /** Absent in a renewal. */
  wrappedKey: sealedSchema.optional(),
});
export type ReleaseReply = z.infer<typeof releaseReplySchema>;

/** GET /v1/leases/{lease} → 200 while live, `CFN_LEASE_ENDED` afterwards. */
export const leaseStatusSchema = z.strictObject({
  lease: z.string(),
  live: z.literal(true),
  remainingMs: z.int().positive(),
});

/**
 * POST /v1/leases/events, with a statement `cfn-lease-events+jwt` of a worker that holds a lease → a stream of lines, each a proof, a space
 * and one of these as JSON: lease after lease that ends before its time. Without `lease`: the KMS is alive, once at the start and then every
 * {@link LEASE_BEAT_MS}. `n` counts lines from 0.
 */
export const leaseEventSchema = z.strictObject({
  n: z.int().nonnegative(),
  lease: z.string().optional(),
  /** What is left of the lease; 0: it was revoked. */
  remainingMs: z.int().nonnegative().optional(),
});
export type LeaseEvent = z.infer<typeof leaseEventSchema>;
export const leaseEventsRequestSchema = z.strictObject({ statement: z.string().max(8192) });

/** POST /v1/leases/{lease}/dropped: the worker's signed statement (JWS by its receipt key) that the key is gone. */
export const droppedSchema = z.strictObject({ statement: z.string().max(8192) });

/** PUT /v1/models/{digest} (owner token): the data key, sealed to the KMS with info {@link dataKeyInfo}. */
export const putKeySchema = z.strictObject({ model: modelReferenceSchema, sealedKey: sealedSchema });

const measurements = z
  .array(z.string().regex(/^[0-9a-f]{96}$/, '48 bytes, hexadecimal'))
  .min(1)
  .max(16)
  .optional();
/** Reference values that an owner takes: of a TD, real or simulated, or of a SEV-SNP guest. */
export const referenceSchema = z
  .strictObject({
    mrtd: measurements,
    rtmr0: measurements,
    rtmr1: measurements,
    rtmr2: measurements,
    rtmr3: measurements,
    /** SEV-SNP. */
    measurement: measurements,
  })
  .refine(
    (reference) => Object.values(reference).some((values) => values !== undefined),
    'expected one measurement at least',
  );
export type Reference = z.infer<typeof referenceSchema>;

/** PUT /v1/models/{digest}/grants (owner token): who may use the model. `author` or `version` narrow it. */
export const grantSchema = z.strictObject({
  tenant: nameSchema,
  function: nameSchema,
  author: z.string().max(100).optional(),
  version: digestSchema.optional(),
  /** TEE kinds of the worker; left out: any that the appraisal policy accepts. */
  tee: z
    .array(z.enum(['tdx', 'snp', 'simulated']))
    .min(1)
    .max(3)
    .optional(),
  /** Architecture of every GPU in the evidence, of which there must be one; left out: GPU or none. */
  gpu: z
    .array(z.enum(['HOPPER', 'BLACKWELL']))
    .min(1)
    .max(2)
    .optional(),
  /** Measurements of the worker's image: each one named must be one of its values. */
  reference: referenceSchema.optional(),
  leaseMs: z.int().min(1000).max(86_400_000),
  until: z.iso.datetime(),
  /** Invocations of the function, all in all, on any number of workers; left out: no limit. */
  maxInvocations: z.int().positive().max(1e12).optional(),
});
export type Grant = z.infer<typeof grantSchema>;

/** POST /v1/withdrawals (no token: the author's signature speaks): withdraws a function version for good. */
export const withdrawalRequestSchema = z.strictObject({
  /** The version's signed manifest (JWS). */
  functionManifest: z.string(),
  /** What {@link signWithdrawal} gives. */
  statement: z.string().max(4096),
});

/** POST /v1/tokens (owner token): `auditor` may read what is the owner's, and change nothing. */
export const newTokenSchema = z.strictObject({ role: z.enum(['admin', 'auditor']) });

/**
 * The nonce of evidence for a release, 32 bytes. It binds the function manifest (JWS), too: whoever carries the request could
 * otherwise put in a granted function's manifest, and have the key go to a worker that runs another.
 */
export function kmsNonce(
  challenge: string,
  wrappingKey: string,
  model: string,
  functionManifest: string,
): Promise<Uint8Array<ArrayBuffer>> {
  return sha256(frame('cfn/kms-nonce/v1', utf8(challenge), utf8(wrappingKey), utf8(model), utf8(functionManifest)));
}
/** HPKE info of a data key sealed by its owner to the KMS: whoever saw it cannot store it as theirs. @param model `owner/name@version` */
export const dataKeyInfo = (digest: string, model: string): Uint8Array<ArrayBuffer> =>
  frame('cfn/data-key/v2', utf8(digest), utf8(model));
/** HPKE info of a data key wrapped by the KMS to an engine. */
export const wrappedKeyInfo = (model: string, challenge: string): Uint8Array<ArrayBuffer> =>
  frame('cfn/wrapped-key/v1', utf8(model), utf8(challenge));
