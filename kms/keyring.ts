import { createCipheriv, createDecipheriv, type KeyObject } from 'node:crypto';
import { CfnError, concatBytes, frame, utf8 } from '../proto/index.ts';

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Wraps what the keyring holds. `wrapped` is nonce (12) ‖ ciphertext ‖ tag (16), AES-256-GCM under the root key. */
export interface Keyring {
  wrap(secret: Uint8Array, context: Uint8Array): Uint8Array<ArrayBuffer>;
  /** @throws {CfnError} `CFN_KEYRING_ALTERED` when bytes, context or root key are not those of the wrapping */
  unwrap(wrapped: Uint8Array, context: Uint8Array): Buffer;
}

/** Context (AAD) of a data key: a row moved to another model or owner does not open. */
export const dataKeyContext = (digest: string, owner: string): Uint8Array =>
  frame('cfn/kms-data-key/v1', utf8(digest), utf8(owner));
/** Context of the KMS's own sealing key. */
export const sealingKeyContext = (publicKey: string): Uint8Array => frame('cfn/kms-sealing-key/v1', utf8(publicKey));

/** @param randomBytes gives GCM nonces; random ones are safe for 2^32 wrappings under one root key (NIST SP 800-38D §8.3) */
export function openKeyring(rootKey: KeyObject, randomBytes: (length: number) => Uint8Array): Keyring {
  return {
    wrap(secret, context) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', rootKey, nonce).setAAD(context);
      return concatBytes(nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag());
    },
    unwrap(wrapped, context) {
      if (wrapped.length < NONCE_BYTES + TAG_BYTES)
        throw new CfnError('CFN_KEYRING_ALTERED', 'a wrapped key is cut short');
      const body = wrapped.subarray(NONCE_BYTES, -TAG_BYTES);
      const decipher = createDecipheriv('aes-256-gcm', rootKey, wrapped.subarray(0, NONCE_BYTES), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(context).setAuthTag(wrapped.subarray(-TAG_BYTES));
      const secret = decipher.update(body);
      try {
        decipher.final();
      } catch (cause) {
        secret.fill(0);
        throw new CfnError('CFN_KEYRING_ALTERED', 'a wrapped key does not open under the root key', { cause });
      }
      return secret;
    },
  };
}
