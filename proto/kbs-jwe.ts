import { FlattenedEncrypt, flattenedDecrypt, exportJWK, generateKeyPair, importJWK } from 'jose';
import { concatBytes, toBase64url, utf8 } from './bytes.ts';
import { canonicalJson } from './canonical-json.ts';
import { CfnError } from './errors.ts';
import { sha256 } from './hash.ts';
import { kbsJweSchema, teePubkeySchema, type KbsJwe, type TeePubkey } from './kbs.ts';

const CONTENT = 'A256GCM';

/** A client's ephemeral key. */
export interface TeeKeyPair {
  readonly publicKey: TeePubkey;
  /** Cannot be exported. */
  readonly privateKey: CryptoKey;
}

/** P-256 with ECDH-ES+A256KW, which every broker has: made in a millisecond, where an RSA key takes hundreds. */
export async function generateTeeKeyPair(): Promise<TeeKeyPair> {
  const { publicKey, privateKey } = await generateKeyPair('ECDH-ES+A256KW', { crv: 'P-256' });
  const { kty, crv, x, y } = await exportJWK(publicKey);
  return { publicKey: teePubkeySchema.parse({ kty, crv, alg: 'ECDH-ES+A256KW', x, y }), privateKey };
}

/**
 * Encrypts a resource to a client's key.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` when it is no point of its curve, or no RSA key
 */
export async function encryptResource(content: Uint8Array, to: TeePubkey): Promise<KbsJwe> {
  try {
    const key = await importJWK(to, to.alg);
    if (key instanceof Uint8Array) throw new TypeError('expected a public key');
    if (to.kty === 'EC') return await encryptToPoint(content, key, to.crv);
    const header = { alg: to.alg, enc: CONTENT };
    return kbsJweSchema.parse(await new FlattenedEncrypt(content).setProtectedHeader(header).encrypt(key));
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', 'cannot encrypt to this tee-pubkey', { cause });
  }
}

/**
 * RFC 7518 §4.6 by WebCrypto, and not by jose: clients in Rust write the header anew before they authenticate it, members in
 * alphabetical order, and jose writes those of `epk` in another.
 */
async function encryptToPoint(content: Uint8Array, key: CryptoKey, crv: 'P-256' | 'P-521'): Promise<KbsJwe> {
  const { subtle } = crypto;
  const ephemeral = await subtle.generateKey({ name: 'ECDH', namedCurve: crv }, true, ['deriveBits']);
  const { x, y } = await subtle.exportKey('jwk', ephemeral.publicKey);
  const header = utf8(canonicalJson({ alg: 'ECDH-ES+A256KW', enc: CONTENT, epk: { crv, kty: 'EC', x, y } }));
  const bits = crv === 'P-256' ? 256 : 528;
  const secret = new Uint8Array(await subtle.deriveBits({ name: 'ECDH', public: key }, ephemeral.privateKey, bits));
  const kek = await wrappingKey(secret);
  secret.fill(0);
  const contentKey = await subtle.generateKey({ name: 'AES-GCM', length: 256 }, true, ['encrypt']);
  const iv = crypto.getRandomValues(new Uint8Array(12));
  const header64 = toBase64url(header);
  const sealed = new Uint8Array(
    await subtle.encrypt(
      { name: 'AES-GCM', iv, additionalData: utf8(header64) },
      contentKey,
      content as Uint8Array<ArrayBuffer>,
    ),
  );
  return kbsJweSchema.parse({
    protected: header64,
    encrypted_key: toBase64url(new Uint8Array(await subtle.wrapKey('raw', contentKey, kek, 'AES-KW'))),
    iv: toBase64url(iv),
    ciphertext: toBase64url(sealed.subarray(0, -16)),
    tag: toBase64url(sealed.subarray(-16)),
  });
}

/** Concat KDF (NIST SP 800-56A), one round of SHA-256. */
async function wrappingKey(secret: Uint8Array): Promise<CryptoKey> {
  const algorithm = utf8('ECDH-ES+A256KW');
  const bytes = await sha256(concatBytes(u32(1), secret, u32(algorithm.length), algorithm, u32(0), u32(0), u32(256)));
  const key = await crypto.subtle.importKey('raw', bytes, 'AES-KW', false, ['wrapKey']);
  bytes.fill(0);
  return key;
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value);
  return bytes;
}

/** @throws {CfnError} `CFN_BROKER_ANSWER` when it is malformed, or encrypted to another key or in another way */
export async function decryptResource(jwe: KbsJwe, { privateKey }: TeeKeyPair): Promise<Uint8Array> {
  try {
    const { plaintext } = await flattenedDecrypt(kbsJweSchema.parse(jwe), privateKey, {
      keyManagementAlgorithms: ['ECDH-ES+A256KW'],
      contentEncryptionAlgorithms: [CONTENT],
    });
    return plaintext;
  } catch (cause) {
    throw new CfnError('CFN_BROKER_ANSWER', 'what the broker released does not open under the key it was asked with', {
      cause,
    });
  }
}

/** A key from JSON. @throws {CfnError} `CFN_INPUT_INVALID` */
export function parseTeePubkey(text: string): TeePubkey {
  try {
    return teePubkeySchema.parse(JSON.parse(text));
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', 'not a tee-pubkey', { cause });
  }
}
