import { z } from 'zod';
import { CfnError } from './errors.ts';
import { fromUtf8 } from './bytes.ts';
import { sha256Hex } from './hash.ts';
import { MANIFEST_BYTES_MAX, MODEL_FILE_BYTES_MAX } from './limits.ts';
import { parseKbsUrl } from './kbs.ts';
import { kmsUrlSchema } from './kms-url.ts';
import { digestSchema, modelReferenceSchema } from './manifest.ts';

/** Manifest of an encrypted model package (design §5). Its SHA-256 is the package's identity. */
export const modelPackageSchema = z.strictObject({
  format: z.literal('cfn/model/v1'),
  /** owner/name@version */
  model: modelReferenceSchema,
  /** Files in the package; `model.onnx` is the entry. `plaintextDigest` and `ciphertextDigest` are SHA-256. */
  files: z
    .array(
      z.strictObject({
        path: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,254}$/),
        bytes: z.int().nonnegative().max(MODEL_FILE_BYTES_MAX),
        plaintextDigest: digestSchema,
        ciphertextDigest: digestSchema,
        /** Plaintext bytes per segment. */
        segmentBytes: z.int().min(1024 * 1024),
        /** 7-byte STREAM nonce prefix, hexadecimal; unique per file under the package's data key. */
        noncePrefix: z.string().regex(/^[0-9a-f]{14}$/),
      }),
    )
    .min(1)
    .max(256),
  /**
   * Who has the data key, as the owner chose: a KMS, whose raw X25519 key `publicKey` is, base64url; or a key broker, which releases it as
   * the resource that the URL names ({@link parseKbsUrl}).
   */
  kms: z.union([
    z.strictObject({
      url: kmsUrlSchema,
      publicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/),
    }),
    z.strictObject({
      publicKey: z.undefined().optional(),
      url: z.string().max(2048).refine(isResourceUrl, "expected the URL of a broker's resource"),
    }),
  ]),
});
export type ModelPackage = z.infer<typeof modelPackageSchema>;

function isResourceUrl(url: string): boolean {
  try {
    parseKbsUrl(url);
    return true;
  } catch {
    return false;
  }
}

/** @throws {CfnError} `CFN_ARTIFACT_ALTERED` when the bytes are not the manifest with this digest. */
export async function parseModelPackage(
  bytes: Uint8Array,
  expectedDigest?: string,
): Promise<ModelPackage & { readonly digest: string }> {
  if (bytes.length > MANIFEST_BYTES_MAX)
    throw new CfnError('CFN_ARTIFACT_ALTERED', `model manifest is over ${MANIFEST_BYTES_MAX} bytes`);
  const digest = await sha256Hex(bytes);
  if (expectedDigest !== undefined && digest !== expectedDigest) {
    throw new CfnError('CFN_ARTIFACT_ALTERED', `model manifest has digest ${digest}, expected ${expectedDigest}`);
  }
  try {
    return { ...modelPackageSchema.parse(JSON.parse(fromUtf8(bytes))), digest };
  } catch (cause) {
    throw new CfnError('CFN_ARTIFACT_ALTERED', 'model manifest is malformed', { cause });
  }
}
