import { isCryptoKey, slotsOf, type CryptoKey } from './crypto-key.ts';
import { DOMException } from './dom-exception.ts';
import { domString } from './dom-string.ts';
import { copyBytes, enforceRange, isObject } from './web-idl.ts';

/** Parameters of an algorithm after normalization (Web Cryptography API §18.4.4), in the form that the process takes. */
export interface Algorithm {
  readonly name: string;
  readonly [member: string]: unknown;
}
export type Operation =
  | 'digest'
  | 'generateKey'
  | 'importKey'
  | 'encrypt'
  | 'decrypt'
  | 'sign'
  | 'verify'
  | 'deriveBits'
  | 'wrapKey'
  | 'unwrapKey'
  | 'get key length';

type Members = (given: Record<string, unknown>) => object;
const none: Members = () => ({});
const ULONG = 0xffff_ffff;

function required(given: Record<string, unknown>, member: string): unknown {
  const value = given[member];
  if (value === undefined) throw new TypeError(`the algorithm needs '${member}'`);
  return value;
}
const bytes = (given: Record<string, unknown>, member: string): ArrayBuffer =>
  copyBytes(required(given, member), member).buffer;
const optionalBytes = (given: Record<string, unknown>, member: string): object =>
  given[member] === undefined ? {} : { [member]: bytes(given, member) };
const range = (given: Record<string, unknown>, member: string, max: number): number =>
  enforceRange(required(given, member), max, member);
const hash = (given: Record<string, unknown>): object => ({
  hash: normalize('digest', required(given, 'hash')).name,
});
const curve: Members = (given) => ({ namedCurve: domString(required(given, 'namedCurve')) });
const optionalLength = (given: Record<string, unknown>): object =>
  given['length'] === undefined ? {} : { length: range(given, 'length', ULONG) };
const publicKey: Members = (given) => {
  const key = required(given, 'public');
  if (!isCryptoKey(key)) throw new TypeError("'public' is not a CryptoKey");
  return { public: key };
};

const AES_LENGTH: Members = (given) => ({ length: range(given, 'length', 0xffff) });
const hmac: Members = (given) => ({ ...hash(given), ...optionalLength(given) });
const rsaGenerate: Members = (given) => {
  const modulusLength = range(given, 'modulusLength', ULONG);
  const exponent = required(given, 'publicExponent');
  if (!(exponent instanceof Uint8Array)) throw new TypeError("'publicExponent' is not a Uint8Array");
  return { modulusLength, publicExponent: exponent.slice().buffer, ...hash(given) };
};
const gcm: Members = (given) => ({
  ...optionalBytes(given, 'additionalData'),
  iv: bytes(given, 'iv'),
  ...(given['tagLength'] === undefined ? {} : { tagLength: range(given, 'tagLength', 0xff) }),
});
const all = (names: readonly string[], members: Members): Record<string, Members> =>
  Object.fromEntries(names.map((name) => [name, members]));

const AES = ['AES-CBC', 'AES-CTR', 'AES-GCM', 'AES-KW'];
const RSA = ['RSASSA-PKCS1-v1_5', 'RSA-PSS', 'RSA-OAEP'];
const EC = ['ECDSA', 'ECDH'];
const OKP = ['Ed25519', 'X25519', 'Ed448', 'X448'];
const cipher = {
  'AES-CBC': ((given) => ({ iv: bytes(given, 'iv') })) as Members,
  'AES-CTR': ((given) => ({ counter: bytes(given, 'counter'), length: range(given, 'length', 0xff) })) as Members,
  'AES-GCM': gcm,
  'RSA-OAEP': ((given) => optionalBytes(given, 'label')) as Members,
};
const signature = {
  ...all(['HMAC', 'RSASSA-PKCS1-v1_5', 'Ed25519'], none),
  Ed448: ((given) => optionalBytes(given, 'context')) as Members,
  'RSA-PSS': ((given) => ({ saltLength: range(given, 'saltLength', ULONG) })) as Members,
  ECDSA: hash as Members,
};

const TABLE: Readonly<Record<Operation, Readonly<Record<string, Members>>>> = {
  digest: all(['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512'], none),
  generateKey: { ...all(AES, AES_LENGTH), HMAC: hmac, ...all(RSA, rsaGenerate), ...all(EC, curve), ...all(OKP, none) },
  importKey: {
    ...all([...AES, ...OKP, 'HKDF', 'PBKDF2'], none),
    HMAC: hmac,
    ...all(RSA, hash),
    ...all(EC, curve),
  },
  encrypt: cipher,
  decrypt: cipher,
  sign: signature,
  verify: signature,
  deriveBits: {
    ...all(['ECDH', 'X25519', 'X448'], publicKey),
    HKDF: (given) => ({ ...hash(given), info: bytes(given, 'info'), salt: bytes(given, 'salt') }),
    PBKDF2: (given) => ({ ...hash(given), iterations: range(given, 'iterations', ULONG), salt: bytes(given, 'salt') }),
  },
  wrapKey: { 'AES-KW': none },
  unwrapKey: { 'AES-KW': none },
  'get key length': { ...all(AES, AES_LENGTH), HMAC: hmac, HKDF: none, PBKDF2: none },
};

/**
 * @throws {TypeError} for parameters of another type
 * @throws {DOMException} `NotSupportedError` for algorithms that this operation does not have
 */
export function normalize(operation: Operation, algorithm: unknown): Algorithm {
  const given: Record<string, unknown> = isObject(algorithm)
    ? (algorithm as Record<string, unknown>)
    : { name: domString(algorithm) };
  const wanted = domString(required(given, 'name')).toUpperCase();
  const table = TABLE[operation];
  const name = Object.keys(table).find((known) => known.toUpperCase() === wanted);
  const members = name === undefined ? undefined : table[name];
  if (name === undefined || members === undefined)
    throw new DOMException(`${operation} does not have the algorithm ${wanted}`, 'NotSupportedError');
  return { name, ...members(given) };
}

/** The number that stands for a key in a request to the process. */
export const handleOf = (key: CryptoKey): number => slotsOf(key).info.key;
