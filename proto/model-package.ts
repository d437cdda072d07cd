import { z } from 'zod';
import { CfnError } from './errors.ts';
import { fromUtf8 } from './bytes.ts';
import { sha256Hex } from './hash.ts';
import { MANIFEST_BYTES_MAX, MODEL_FILE_BYTES_MAX } from './limits.ts';
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
  /** The KMS that the owner chose. `publicKey` is its raw X25519 key, base64url. */
  kms: z.strictObject({ url: z.url(), publicKey: z.string().regex(/^[A-Za-z0-9_-]{43}$/) }),
});
export type ModelPackage = z.infer<typeof modelPackageSchema>;

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
