import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';
import { CfnError, concatBytes } from '../proto/index.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * AES-256-GCM: nonce (12) ‖ ciphertext ‖ tag (16).
 *
 * @param context bound as associated data
 * @param randomBytes gives the nonce; random ones are safe for 2^32 wrappings under one key (NIST SP 800-38D §8.3)
 */
export function wrapUnder(
  key: KeyObject,
  secret: Uint8Array,
  context: Uint8Array,
  randomBytes: (length: number) => Uint8Array,
): Uint8Array<ArrayBuffer> {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(context);
  return concatBytes(nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag());
}

/** @throws {CfnError} `CFN_KEYRING_ALTERED` when bytes, context or key are not those of the wrapping */
export function unwrapUnder(key: KeyObject, wrapped: Uint8Array, context: Uint8Array): Buffer {
  if (wrapped.length < NONCE_BYTES + TAG_BYTES) throw new CfnError('CFN_KEYRING_ALTERED', 'a wrapped key is cut short');
  const nonce = wrapped.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(context).setAuthTag(wrapped.subarray(-TAG_BYTES));
  const secret = decipher.update(wrapped.subarray(NONCE_BYTES, -TAG_BYTES));
  try {
    decipher.final();
  } catch (cause) {
    secret.fill(0);
    throw new CfnError('CFN_KEYRING_ALTERED', 'a wrapped key does not open under its key', { cause });
  }
  return secret;
}
