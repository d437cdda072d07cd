import { AEAD_AES_256_GCM, CipherSuite, KDF_HKDF_SHA256, KEM_DHKEM_X25519_HKDF_SHA256 } from 'hpke';
import { fromBase64url, toBase64url } from './bytes.ts';
import { CfnError, type ErrorCode } from './errors.ts';
import type { Sealed } from './kms-api.ts';

/** One-shot sealing of keys between owner, KMS and engine: the suite of {@link Sealed}. `info` names the purpose and context. */
const suite = new CipherSuite(KEM_DHKEM_X25519_HKDF_SHA256, KDF_HKDF_SHA256, AEAD_AES_256_GCM);

export interface SealingKeyPair {
  /** Raw X25519, base64url. */
  readonly publicKey: string;
  readonly privateKey: CryptoKey;
}

/** Opening needs the public key too, and WebCrypto derives it from a private key only in its newest versions. */
const publicKeys = new WeakMap<CryptoKey, CryptoKey>();

/** @param extractable whether the private key may leave as bytes, as a KMS needs to keep it in its keyring */
export async function generateSealingKeyPair(extractable = false): Promise<SealingKeyPair> {
  const { publicKey, privateKey } = await suite.GenerateKeyPair(extractable);
  publicKeys.set(privateKey, publicKey);
  return { publicKey: toBase64url(await suite.SerializePublicKey(publicKey)), privateKey };
}

/** Raw X25519 private key, 32 bytes. */
export function exportSealingKey(privateKey: CryptoKey): Promise<Uint8Array> {
  return suite.SerializePrivateKey(privateKey);
}

/**
 * The key cannot be exported again.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID`
 */
export async function importSealingKey(bytes: Uint8Array): Promise<CryptoKey> {
  try {
    const { x } = await crypto.subtle.exportKey('jwk', await suite.DeserializePrivateKey(bytes, true));
    const privateKey = await suite.DeserializePrivateKey(bytes, false);
    publicKeys.set(privateKey, await suite.DeserializePublicKey(fromBase64url(x ?? '')));
    return privateKey;
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', 'not an X25519 private key', { cause });
  }
}

/**
 * Seals to a raw X25519 public key, base64url.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` when the key is none
 */
export const sealTo = (publicKey: string, plaintext: Uint8Array, info: Uint8Array): Promise<Sealed> =>
  sealWith(suite, publicKey, plaintext, info);

/** {@link sealTo} by this implementation of the suite. */
export async function sealWith(
  suite: CipherSuite,
  publicKey: string,
  plaintext: Uint8Array,
  info: Uint8Array,
): Promise<Sealed> {
  const raw = fromBase64url(publicKey);
  try {
    const { encapsulatedSecret, ciphertext } = await suite.Seal(await suite.DeserializePublicKey(raw), plaintext, {
      info,
    });
    return { enc: toBase64url(encapsulatedSecret), ciphertext: toBase64url(ciphertext) };
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', 'cannot seal to this X25519 public key', { cause });
  }
}

/** @throws {CfnError} `code`, `CFN_INPUT_INVALID` by default, when key, info or bytes are not those of the sealing */
export async function openSealed(
  privateKey: CryptoKey,
  sealed: Sealed,
  info: Uint8Array,
  code: ErrorCode = 'CFN_INPUT_INVALID',
): Promise<Uint8Array<ArrayBuffer>> {
  const enc = fromBase64url(sealed.enc, code);
  const ciphertext = fromBase64url(sealed.ciphertext, code);
  const publicKey = publicKeys.get(privateKey);
  try {
    return (await suite.Open(publicKey === undefined ? privateKey : { privateKey, publicKey }, enc, ciphertext, {
      info,
    })) as Uint8Array<ArrayBuffer>;
  } catch (cause) {
    throw new CfnError(code, 'a sealed key does not open under this private key and purpose', { cause });
  }
}
