import { concatBytes, fromHex, nodeCrypto } from '../../../proto/index.ts';
import { BoundedMap } from '../bounded-map.ts';
import { mapKey } from './map-key.ts';
import type { Curve, Hash, PublicKey, SignatureAlgorithm } from '../../evidence/algorithms.ts';
import { ecdsaSignatureFromDer } from '../../evidence/der.ts';

/** An elliptic key as the bytes x ‖ y, which is how quotes carry it. */
export interface RawPublicKey {
  readonly curve: Curve;
  readonly xy: Uint8Array;
}

const COORDINATE_BYTES = { 'P-256': 32, 'P-384': 48 } as const;

/** Verifies a signature of an X.509 object; ECDSA ones are DER there. A key that is of another kind, or no key at all, verifies nothing. */
export async function verifySignature(
  key: PublicKey,
  algorithm: SignatureAlgorithm,
  signature: Uint8Array,
  data: Uint8Array,
): Promise<boolean> {
  if (algorithm.type === 'ecdsa') {
    if (key.type !== 'ec') return false;
    const raw = ecdsaSignatureFromDer(signature, COORDINATE_BYTES[key.curve]);
    return verifyEcdsa(key, algorithm.hash, raw, data);
  }
  if (key.type !== 'rsa') return false;
  const pss = algorithm.type === 'rsa-pss';
  const name = pss ? 'RSA-PSS' : 'RSASSA-PKCS1-v1_5';
  const imported = await importKey('spki', key.spki, { name, hash: algorithm.hash });
  if (imported === undefined) return false;
  return verify(pss ? { name, saltLength: algorithm.saltBytes } : { name }, imported, signature, data);
}

/** Verifies a raw (r ‖ s) ECDSA signature; a point that is not on its curve verifies nothing. */
export async function verifyEcdsa(
  key: Extract<PublicKey, { type: 'ec' }> | RawPublicKey,
  hash: Hash,
  signature: Uint8Array,
  data: Uint8Array,
): Promise<boolean> {
  if (signature.length !== 2 * COORDINATE_BYTES[key.curve]) return false;
  if (nodeCrypto !== undefined) return verifyInNode(key, hash, signature, data);
  const algorithm = { name: 'ECDSA', namedCurve: key.curve };
  const imported =
    'xy' in key
      ? await importKey('raw', concatBytes(Uint8Array.of(4), key.xy), algorithm)
      : await importKey('spki', key.spki, algorithm);
  return imported !== undefined && verify({ name: 'ECDSA', hash }, imported, signature, data);
}

async function verify(
  algorithm: { name: string; hash?: Hash; saltLength?: number },
  key: CryptoKey,
  signature: Uint8Array,
  data: Uint8Array,
): Promise<boolean> {
  try {
    // WebCrypto copies both before it begins, so views are safe; its types take no view that could be shared memory.
    return await crypto.subtle.verify(algorithm, key, signature as Bytes, data as Bytes);
  } catch {
    return false;
  }
}

type Bytes = Uint8Array<ArrayBuffer>;
type KeyAlgorithm = { readonly name: string } & ({ readonly namedCurve: Curve } | { readonly hash: Hash });

type KeyObject = ReturnType<NonNullable<typeof nodeCrypto>['createPublicKey']>;

/** As WebCrypto would, but at once. */
function verifyInNode(
  key: Extract<PublicKey, { type: 'ec' }> | RawPublicKey,
  hash: Hash,
  signature: Uint8Array,
  data: Uint8Array,
): boolean {
  const spki = 'xy' in key ? concatBytes(SPKI_PREFIX[key.curve], key.xy) : key.spki;
  const name = `${key.curve} ${mapKey(spki)}`;
  const imported = nodeKeys.get(name) ?? importInNode(spki, key.curve);
  if (imported === undefined) return false;
  nodeKeys.set(name, imported);
  // DER, for any other encoding is an option, which Node looks at by way of an exception.
  return nodeCrypto?.verify(hash, data, imported, ecdsaSignatureToDer(signature)) === true;
}

/** ECDSA-Sig-Value (RFC 3279 §2.2.3) of r ‖ s. */
function ecdsaSignatureToDer(raw: Uint8Array): Uint8Array {
  const half = raw.length / 2;
  const body = [raw.subarray(0, half), raw.subarray(half)].map((number) => {
    let from = 0;
    while (from < half - 1 && number[from] === 0) from++;
    const sign = (number[from] ?? 0) >= 0x80 ? [0] : [];
    return Uint8Array.of(0x02, half - from + sign.length, ...sign, ...number.subarray(from));
  });
  return concatBytes(
    Uint8Array.of(
      0x30,
      body.reduce((sum, { length }) => sum + length, 0),
    ),
    ...body,
  ); // under 128 bytes
}

/** `undefined` for bytes that are no such key, a point that is not on the curve among them. */
function importInNode(spki: Uint8Array, curve: Curve): KeyObject | undefined {
  try {
    const key = nodeCrypto?.createPublicKey({ key: spki as Buffer, format: 'der', type: 'spki' });
    return key?.asymmetricKeyDetails?.namedCurve === NODE_CURVE[curve] ? key : undefined;
  } catch {
    return undefined;
  }
}
const NODE_CURVE = { 'P-256': 'prime256v1', 'P-384': 'secp384r1' } as const;
/** SubjectPublicKeyInfo of a key on the curve, up to the coordinates (RFC 5480 §2). */
const SPKI_PREFIX = {
  'P-256': fromHex('3059301306072a8648ce3d020106082a8648ce3d03010703420004'),
  'P-384': fromHex('3076301006072a8648ce3d020106052b8104002203620004'),
} as const;
const nodeKeys = new BoundedMap<string, KeyObject>(256);

/** Imported keys kept: vendors' CA keys come again in every chain. */
const keys = new BoundedMap<string, Promise<CryptoKey | undefined>>(256);

/** `undefined` for bytes that are no such key. */
function importKey(format: 'spki' | 'raw', bytes: Uint8Array, algorithm: KeyAlgorithm): Promise<CryptoKey | undefined> {
  const variant = 'hash' in algorithm ? algorithm.hash : algorithm.namedCurve;
  const name = `${format} ${algorithm.name} ${variant} ${mapKey(bytes)}`;
  const kept = keys.get(name);
  if (kept !== undefined) return kept;
  const key = crypto.subtle.importKey(format, bytes as Bytes, algorithm, false, ['verify']).catch(() => undefined);
  keys.set(name, key);
  return key;
}
