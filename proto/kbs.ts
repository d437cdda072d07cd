import { z } from 'zod';
import { concatBytes, utf8 } from './bytes.ts';
import { canonicalJson } from './canonical-json.ts';
import { CfnError } from './errors.ts';
import { frame, sha256, sha384, sha512, sha256Hex } from './hash.ts';
import { grantSchema } from './kms-api.ts';
import { nameSchema } from './manifest.ts';

// The attestation protocol of key brokers (Trustee's KBS; "RCAR"), version 0.4.0: request, challenge, attestation, response.
// https://github.com/confidential-containers/trustee, kbs/docs/kbs_attestation_protocol.md

/** The one version that brokers and clients of today accept. */
export const KBS_VERSION = '0.4.0';
/** Below the broker's own URL. */
export const KBS_PATH = '/kbs/v0';
export const KBS_COOKIE = 'kbs-session-id';
/** Before the name of an error, in its `type`. */
export const KBS_ERRORS = 'https://github.com/confidential-containers/kbs/errors/';

const HASHES = { sha256, sha384, sha512 };
/** Report data is a hash of what it binds, in the algorithm of the challenge. */
export type KbsHash = keyof typeof HASHES;
/** From the one that is preferred. */
export const KBS_HASHES = ['sha384', 'sha512', 'sha256'] as const satisfies readonly KbsHash[];

/** POST /auth */
export const kbsRequestSchema = z.object({
  version: z.string().max(64),
  tee: z.string().max(64),
  'extra-params': z.unknown(),
});

const hashesSchema = z.object({ 'supported-hash-algorithms': z.array(z.string().max(32)).max(32) });
const selectedSchema = z.object({ 'selected-hash-algorithm': z.string().max(32) });
/** Answer to /auth. The nonce is text to both sides; it is 32 bytes in base64. */
export const kbsChallengeSchema = z.object({
  nonce: z.string().min(22).max(1024),
  'extra-params': z.unknown().optional(),
});

/**
 * What a broker answers to a client's `extra-params`: the first of ours that the client has; nothing where it does not say.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` when there is none in common
 */
export function chooseKbsHash(extraParams: unknown): KbsHash | undefined {
  const offered = hashesSchema.safeParse(extraParams);
  if (!offered.success) return undefined;
  const names = offered.data['supported-hash-algorithms'].map((name) => name.toLowerCase());
  const chosen = KBS_HASHES.find((name) => names.includes(name));
  if (chosen === undefined)
    throw new CfnError('CFN_INPUT_INVALID', `expected one of the hash algorithms ${KBS_HASHES.join(', ')}`);
  return chosen;
}

/** The algorithm that a challenge names; SHA-384 where it names none. @throws {CfnError} `CFN_INPUT_INVALID` */
export function kbsHashOf(extraParams: unknown): KbsHash {
  const selected = selectedSchema.safeParse(extraParams);
  if (!selected.success) return 'sha384';
  const name = selected.data['selected-hash-algorithm'].toLowerCase();
  const known = KBS_HASHES.find((hash) => hash === name);
  if (known === undefined)
    throw new CfnError('CFN_INPUT_INVALID', `the challenge names hash algorithm ${name}, which is not had here`);
  return known;
}

const base64url = (min: number, max: number): z.ZodString =>
  z
    .string()
    .min(min)
    .max(max)
    .regex(/^[A-Za-z0-9_-]+$/);
/** P-256 is what clients make by default. `RSA1_5`, which the protocol still knows, is refused: its padding gives keys away. */
export const teePubkeySchema = z.union([
  z.strictObject({
    kty: z.literal('EC'),
    crv: z.literal('P-256'),
    alg: z.literal('ECDH-ES+A256KW'),
    x: base64url(43, 43),
    y: base64url(43, 43),
  }),
  z.strictObject({
    kty: z.literal('EC'),
    crv: z.literal('P-521'),
    alg: z.literal('ECDH-ES+A256KW'),
    x: base64url(88, 88),
    y: base64url(88, 88),
  }),
  /** 2048 to 4096 bits. */
  z.strictObject({
    kty: z.literal('RSA'),
    alg: z.literal('RSA-OAEP-256'),
    n: base64url(342, 683),
    e: base64url(1, 8),
  }),
]);
/** The ephemeral key of a client, to which resources are encrypted. */
export type TeePubkey = z.infer<typeof teePubkeySchema>;

export const kbsRuntimeDataSchema = z.strictObject({
  /** As the challenge had it. */
  nonce: z.string().max(1024),
  'tee-pubkey': teePubkeySchema,
});

/** POST /attest, with the cookie of /auth. */
export const kbsAttestationSchema = z.object({
  /** Taken, and not looked at: whether MRCONFIGID or HOST_DATA are as expected is the appraisal policy's to say. */
  'init-data': z.object({ format: z.string().max(64), body: z.string() }).nullish(),
  'runtime-data': kbsRuntimeDataSchema,
  'tee-evidence': z.strictObject({
    /** By the kind of TEE. */
    primary_evidence: z.unknown(),
    /** JSON of an object from kind to evidence, as text, because it is hashed; or nothing. */
    additional_evidence: z.string(),
  }),
});
/** Answer to /attest. */
export const kbsTokenSchema = z.object({ token: z.string().max(1024 * 1024) });

/** Answer to a resource: a flattened JWE (RFC 7516 §7.2.2). The `protected` text itself is authenticated, so it is never written anew. */
export const kbsJweSchema = z.strictObject({
  protected: base64url(1, 8192),
  encrypted_key: base64url(1, 2048),
  iv: base64url(16, 16),
  ciphertext: base64url(1, 16 * 1024 * 1024),
  tag: base64url(22, 22),
});
export type KbsJwe = z.infer<typeof kbsJweSchema>;

/** Any refusal of a broker. */
export const kbsErrorSchema = z.object({ type: z.string().max(1024), detail: z.string().optional() });

/** What evidence is bound to. */
export interface KbsBinding {
  readonly nonce: string;
  readonly teePubkey: TeePubkey;
  readonly hash: KbsHash;
}

/** What GPUs and other devices are asked with: 32 bytes. */
export async function kbsDeviceNonce({ nonce, teePubkey, hash }: KbsBinding): Promise<Uint8Array<ArrayBuffer>> {
  const digest = await HASHES[hash](utf8(canonicalJson({ nonce, 'tee-pubkey': teePubkey })));
  return digest.slice(0, 32);
}

/** The 64 bytes of report data: a hash over nonce, key and device evidence (as text, '' for none), and zeros behind it. */
export async function kbsReportData(
  { nonce, teePubkey, hash }: KbsBinding,
  additionalEvidence: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const bound = { nonce, 'tee-pubkey': teePubkey, 'additional-evidence': additionalEvidence };
  const digest = await HASHES[hash](utf8(canonicalJson(bound)));
  return concatBytes(digest, new Uint8Array(64 - digest.length));
}

/** A client's name in logs: SHA-256 of its key. */
export const teePubkeyDigest = (key: TeePubkey): Promise<string> => sha256Hex(utf8(canonicalJson(key)));

const PART = /^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$/;
/** Second and third part of a resource's name. The first, the repository, is the name of the owner's namespace. */
export const resourcePartSchema = z.string().max(64).regex(PART, 'letters, digits, "_", "-" and ".", at most 64');

/** Where a resource is: a broker, and `repository/type/tag` there. */
export interface KbsLocation {
  /** http or https, without a slash at its end. */
  readonly broker: string;
  readonly resource: string;
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/**
 * Reads `kbs+https://HOST/REPOSITORY/TYPE/TAG`. Without TLS only on this machine: a host could else answer for the broker, and renew
 * what the broker refuses.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID`
 */
export function parseKbsUrl(text: string): KbsLocation {
  const invalid = (what: string): CfnError =>
    new CfnError('CFN_INPUT_INVALID', `${text.slice(0, 200)} is no URL of a broker's resource: ${what}`);
  const url = URL.parse(text.replace(/^kbs\+(?=https?:)/, ''));
  if (!text.startsWith('kbs+') || url === null || !/^https?:$/.test(url.protocol))
    throw invalid('expected kbs+https://HOST/REPOSITORY/TYPE/TAG');
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.hash !== '')
    throw invalid('it has a user, a query or a fragment');
  if (url.protocol === 'http:' && !LOOPBACK.test(url.hostname)) throw invalid('http is for this machine only');
  const parts = url.pathname.split('/').slice(1);
  const resource = parts.slice(-3);
  if (parts.length < 3 || !resource.every((part) => PART.test(part))) throw invalid('expected REPOSITORY/TYPE/TAG');
  return { broker: [url.origin, ...parts.slice(0, -3)].join('/'), resource: resource.join('/') };
}

/** Whether a KMS of this name is a key broker, and not a KMS of this project. */
export const isKbsUrl = (url: string): boolean => url.startsWith('kbs+');

const { tee, gpu, reference, until } = grantSchema.shape;
/** To whom a resource is released: clients that the appraisal policy accepts, and of which this is so. */
export const resourceTermsSchema = z.strictObject({
  tee,
  gpu,
  reference,
  /**
   * Also to clients whose evidence nobody signed (`sample`), where the appraisal policy is a simulated one: whoever asks is given it.
   * For trying clients out.
   */
  insecureSample: z.literal(true).optional(),
  until,
});
export type ResourceTerms = z.infer<typeof resourceTermsSchema>;

/** Largest resource, in bytes: keys, certificates, configurations. First guess. */
export const RESOURCE_BYTES_MAX = 64 * 1024;

/** PUT /v1/resources/{type}/{tag} (owner token): the content, sealed to the KMS with {@link resourceInfo}. */
export const putResourceSchema = z.strictObject({
  sealed: z.strictObject({ enc: base64url(43, 43), ciphertext: base64url(1, (RESOURCE_BYTES_MAX * 3) / 2) }),
  terms: resourceTermsSchema,
});
/** GET /v1/resources */
export const resourceListSchema = z.object({
  resources: z.array(
    z.object({
      resource: z.string(),
      bytes: z.int().nonnegative(),
      storedAt: z.iso.datetime(),
      terms: resourceTermsSchema,
    }),
  ),
});

/** HPKE info of a resource sealed by its owner to the KMS: whoever saw it cannot store it as theirs. */
export const resourceInfo = (owner: string, type: string, tag: string): Uint8Array<ArrayBuffer> =>
  frame('cfn/resource/v2', utf8(owner), utf8(type), utf8(tag));

/** `repository/type/tag` in a path of the protocol. @throws {CfnError} `CFN_NOT_FOUND` */
export function parseResourcePath(
  repository: string,
  type: string,
  tag: string,
): { owner: string; type: string; tag: string } {
  const isPart = (part: string): boolean => resourcePartSchema.safeParse(part).success;
  if (!nameSchema.safeParse(repository).success || !isPart(type) || !isPart(tag))
    throw new CfnError('CFN_NOT_FOUND', 'expected resource/REPOSITORY/TYPE/TAG');
  return { owner: repository, type, tag };
}
