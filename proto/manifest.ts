import { CompactSign, compactVerify, calculateJwkThumbprint, importJWK, type JWK, type CryptoKey } from 'jose';
import { z } from 'zod';
import { CfnError } from './errors.ts';
import { fromUtf8, utf8 } from './bytes.ts';
import { sha256Hex } from './hash.ts';
import { kmsUrlSchema } from './kms-url.ts';
import { BUNDLE_BYTES_MAX, LIMIT_BOUNDS, MANIFEST_BYTES_MAX, MODELS_MAX, SECRETS_MAX } from './limits.ts';

export const nameSchema = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'lower-case letters, digits and hyphens, at most 63');
export const digestSchema = z.string().regex(/^[0-9a-f]{64}$/, 'SHA-256 as 64 lower-case hexadecimal digits');
/** `owner/name@version`. */
export const modelReferenceSchema = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}\/[a-z0-9][a-z0-9._-]{0,62}@[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/, 'owner/name@version');

/** Names in `env`: of vars and of secrets. */
export const secretNameSchema = z
  .string()
  .regex(/^[A-Za-z_][A-Za-z0-9_]{0,62}$/, 'letters, digits and _, at most 63')
  .refine((name) => name !== '__proto__', 'no name of a property');

/** A host that a function may fetch: a name in lower case, no wildcard, with a port where that is not 443. */
export const egressHostSchema = z
  .string()
  .max(259)
  .regex(
    /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[1-9][0-9]{0,4})?$/,
    'a host name in lower case, with a port where that is not 443',
  );

/** What an author signs: design §6. Its digest is the function version's identity. */
export const functionManifestSchema = z.strictObject({
  format: z.literal('cfn/function/v1'),
  tenant: nameSchema,
  name: nameSchema,
  compatibilityDate: z.iso.date(),
  code: z.strictObject({ digest: digestSchema, bytes: z.int().positive().max(BUNDLE_BYTES_MAX) }),
  /** `digest` is that of the model package's manifest. */
  models: z
    .array(
      z.strictObject({
        binding: z.string().regex(/^[A-Z][A-Z0-9_]{0,62}$/),
        model: modelReferenceSchema,
        digest: digestSchema,
      }),
    )
    .max(MODELS_MAX),
  vars: z.record(secretNameSchema, z.string().max(4096)),
  /** Whose values are not here: a KMS releases them to workers that run this version. Absent: none. */
  secrets: z
    .strictObject({
      /** `publicKey`: the KMS's sealing key (raw X25519, base64url). */
      kms: z.strictObject({ url: kmsUrlSchema, publicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/) }),
      /** Namespace at the KMS. */
      owner: nameSchema,
      names: z.array(secretNameSchema).min(1).max(SECRETS_MAX),
    })
    .optional(),
  limits: z.strictObject({
    cpuMs: z.int().positive().max(LIMIT_BOUNDS.cpuMs),
    wallMs: z.int().positive().max(LIMIT_BOUNDS.wallMs),
    memoryMb: z.int().min(LIMIT_BOUNDS.memoryMb.min).max(LIMIT_BOUNDS.memoryMb.max),
    /** Largest bodies, in MiB; absent: REQUEST_BYTES_MAX and RESPONSE_BYTES_MAX. */
    requestMb: z.int().positive().max(LIMIT_BOUNDS.bodyMb).optional(),
    responseMb: z.int().positive().max(LIMIT_BOUNDS.bodyMb).optional(),
  }),
  egress: z.strictObject({ allow: z.array(egressHostSchema).max(64) }),
  caller: z.strictObject({
    plaintext: z.boolean(),
    logs: z.enum(['none', 'author']),
    /** The gateway asks callers for a token of the function's tenant. Absent: anybody may call. */
    auth: z.literal('token').optional(),
  }),
});
export type FunctionManifest = z.infer<typeof functionManifestSchema>;

export interface SignedManifest {
  readonly manifest: FunctionManifest;
  /** SHA-256 of the exact payload bytes: the function version. */
  readonly version: string;
  /** RFC 7638 thumbprint of the author's Ed25519 key. */
  readonly author: string;
  readonly jws: string;
}

const JWS_TYPE = 'cfn-function+jws';

/** Signs with the author's Ed25519 key. The public key travels in the header; whether to trust it is the verifier's question. */
export async function signManifest(
  manifest: FunctionManifest,
  key: CryptoKey,
  publicJwk: JWK,
): Promise<SignedManifest> {
  const payload = utf8(JSON.stringify(functionManifestSchema.parse(manifest)));
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: publicJwk.x ?? '' };
  const jws = await new CompactSign(payload).setProtectedHeader({ alg: 'EdDSA', typ: JWS_TYPE, jwk }).sign(key);
  return { manifest, version: await sha256Hex(payload), author: await calculateJwkThumbprint(jwk), jws };
}

/**
 * Parses and verifies a signed manifest.
 *
 * @throws {CfnError} `CFN_MANIFEST_ALTERED` when the signature or the content does not hold.
 */
export async function verifyManifest(jws: string): Promise<SignedManifest> {
  if (jws.length > MANIFEST_BYTES_MAX)
    throw new CfnError('CFN_MANIFEST_ALTERED', `manifest is over ${MANIFEST_BYTES_MAX} bytes`);
  try {
    let author = '';
    const { payload, protectedHeader } = await compactVerify(
      jws,
      async (header) => {
        const { jwk } = header;
        if (jwk?.kty !== 'OKP' || jwk.crv !== 'Ed25519' || jwk.x === undefined)
          throw new Error('header has no Ed25519 key');
        const key = { kty: 'OKP', crv: 'Ed25519', x: jwk.x };
        author = await calculateJwkThumbprint(key);
        return importJWK(key, 'EdDSA');
      },
      { algorithms: ['EdDSA'] },
    );
    if (protectedHeader.typ !== JWS_TYPE)
      throw new Error(`typ is ${String(protectedHeader.typ)}, expected ${JWS_TYPE}`);
    const manifest = functionManifestSchema.parse(JSON.parse(fromUtf8(payload)));
    return { manifest, version: await sha256Hex(payload), author, jws };
  } catch (cause) {
    throw new CfnError(
      'CFN_MANIFEST_ALTERED',
      `signed manifest does not verify: ${String((cause as Error).message).slice(0, 200)}`,
      { cause },
    );
  }
}

/** @throws {CfnError} `CFN_MANIFEST_ALTERED` when the bundle is not the one the manifest names. */
export async function verifyBundle(manifest: FunctionManifest, bundle: Uint8Array): Promise<void> {
  if (bundle.length !== manifest.code.bytes || (await sha256Hex(bundle)) !== manifest.code.digest) {
    throw new CfnError('CFN_MANIFEST_ALTERED', `bundle differs from code.digest ${manifest.code.digest}`);
  }
}
