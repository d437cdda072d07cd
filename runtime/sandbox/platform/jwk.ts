import { concatBytes } from '../../../proto/bytes.ts';
import { atob, btoa } from './base64.ts';
import type { KeyAlgorithm, KeyUsage } from './crypto-key.ts';
import { BIT_STRING, der, derInteger, elements, INTEGER, OCTET_STRING, OID, SEQUENCE, unsigned } from './der.ts';
import { DOMException } from './dom-exception.ts';
import { domString } from './dom-string.ts';
import { sequenceOf } from './web-idl.ts';

/**
 * JSON Web Keys (RFC 7517, 7518, 8037), made and read here: as text in the process, they would stay in its heap. To the process go the
 * formats raw, SPKI and PKCS #8.
 */
export type Jwk = Record<string, unknown>;
type Bytes = Uint8Array<ArrayBuffer>;
export interface KeyMaterial {
  readonly format: 'raw' | 'spki' | 'pkcs8';
  readonly bytes: Bytes;
  readonly isPublic: boolean;
  /** Of a private key: what its public half must be, raw. */
  readonly publicRaw?: Bytes;
}

const RSA_OID = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC_OID = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/** Object identifier, and length of a coordinate in bytes. */
const CURVES: Readonly<Record<string, { readonly oid: readonly number[]; readonly size: number }>> = {
  'P-256': { oid: [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], size: 32 },
  'P-384': { oid: [0x2b, 0x81, 0x04, 0x00, 0x22], size: 48 },
  'P-521': { oid: [0x2b, 0x81, 0x04, 0x00, 0x23], size: 66 },
};
/** Last arc of 1.3.101, and length of a public key in bytes (RFC 8410). */
const OKPS: Readonly<Record<string, { readonly arc: number; readonly size: number }>> = {
  X25519: { arc: 110, size: 32 },
  X448: { arc: 111, size: 56 },
  Ed25519: { arc: 112, size: 32 },
  Ed448: { arc: 113, size: 57 },
};
const NULL = [0x05, 0x00];
const [ZERO, ONE] = [der(INTEGER, [0]), der(INTEGER, [1])];

const wrong = (message: string): DOMException => new DOMException(`the JSON Web Key: ${message}`, 'DataError');

function fromBase64Url(value: unknown, member: string): Bytes {
  const text = value === undefined ? '' : domString(value);
  if (value === undefined || !/^[A-Za-z0-9_-]*$/.test(text)) throw wrong(`'${member}' is missing, or not base64url`);
  try {
    return Uint8Array.from(atob(text.replace(/-/g, '+').replace(/_/g, '/')), (unit) => unit.charCodeAt(0));
  } catch {
    throw wrong(`'${member}' is not base64url`);
  }
}
function toBase64Url(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text).replace(/\+/g, '-').replace(/\//g, '_').replace(/=+$/, '');
}

/** Value of `alg` for a key; several where there are several names, none where any is taken. */
function algsOf({ name, hash, length }: KeyAlgorithm): readonly string[] {
  const bits = hash?.name.slice('SHA-'.length) ?? '';
  if (name.startsWith('AES-')) return length === undefined ? [] : [`A${length}${name.slice('AES-'.length)}`];
  if (name === 'HMAC') return [`HS${bits}`];
  if (name === 'RSASSA-PKCS1-v1_5') return [`RS${bits}`];
  if (name === 'RSA-PSS') return [`PS${bits}`];
  if (name === 'RSA-OAEP') return [bits === '1' ? 'RSA-OAEP' : `RSA-OAEP-${bits}`];
  return name.startsWith('Ed') ? [name, 'EdDSA'] : [];
}
const EC_ALGS: Readonly<Record<string, string>> = { 'P-256': 'ES256', 'P-384': 'ES384', 'P-521': 'ES512' };

function checkMembers(jwk: Jwk, algorithm: KeyAlgorithm, extractable: boolean, usages: readonly KeyUsage[]): void {
  const { name, namedCurve } = algorithm;
  const use = name === 'ECDH' || /^(AES|RSA-OAEP|X)/.test(name) ? 'enc' : 'sig';
  if (usages.length > 0 && jwk['use'] !== undefined && jwk['use'] !== use) throw wrong(`'use' is not '${use}'`);
  if (jwk['key_ops'] !== undefined) {
    const ops = sequenceOf(jwk['key_ops'], 'key_ops').map((op) => domString(op));
    if (new Set(ops).size < ops.length) throw wrong("'key_ops' has one twice");
    if (!usages.every((usage) => ops.includes(usage))) throw wrong("'key_ops' does not allow these usages");
  }
  if (jwk['ext'] === false && extractable) throw wrong('it is not extractable');
  const algs = name === 'ECDSA' ? [EC_ALGS[namedCurve ?? '']] : algsOf(algorithm);
  if (jwk['alg'] !== undefined && algs.length > 0 && !algs.includes(domString(jwk['alg'])))
    throw wrong(`'alg' is not ${algs.join(' or ')}`);
}

const kind = (name: string): 'oct' | 'RSA' | 'EC' | 'OKP' =>
  name.startsWith('RSA') ? 'RSA' : name.startsWith('EC') ? 'EC' : Object.hasOwn(OKPS, name) ? 'OKP' : 'oct';

/** What `usages` mean for the key is the caller's to check. @throws {DOMException} `DataError` */
export function readJwk(
  jwk: Jwk,
  algorithm: KeyAlgorithm,
  extractable: boolean,
  usages: readonly KeyUsage[],
): KeyMaterial {
  const kty = kind(algorithm.name);
  if (jwk['kty'] !== kty) throw wrong(`'kty' is not '${kty}'`);
  if (kty === 'oct') {
    const bytes = fromBase64Url(jwk['k'], 'k');
    const isAes = algorithm.name.startsWith('AES-');
    checkMembers(jwk, isAes ? { ...algorithm, length: bytes.length * 8 } : algorithm, extractable, usages);
    return { format: 'raw', bytes, isPublic: false };
  }
  checkMembers(jwk, algorithm, extractable, usages);
  if (kty === 'RSA') return readRsa(jwk);
  return kty === 'EC' ? readEc(jwk, algorithm.namedCurve ?? '') : readOkp(jwk, algorithm.name);
}

function readRsa(jwk: Jwk): KeyMaterial {
  const integer = (member: string): Bytes => derInteger(fromBase64Url(jwk[member], member));
  const identifier = der(SEQUENCE, der(OID, RSA_OID), NULL);
  const [n, e] = [integer('n'), integer('e')];
  if (jwk['d'] === undefined) {
    const bytes = der(SEQUENCE, identifier, der(BIT_STRING, [0], der(SEQUENCE, n, e)));
    return { format: 'spki', bytes, isPublic: true };
  }
  if (jwk['oth'] !== undefined)
    throw new DOMException('RSA keys of more than two primes are not supported', 'NotSupportedError');
  const rest = ['d', 'p', 'q', 'dp', 'dq', 'qi'].map(integer);
  const inner = der(SEQUENCE, ZERO, n, e, ...rest);
  return { format: 'pkcs8', bytes: der(SEQUENCE, ZERO, identifier, der(OCTET_STRING, inner)), isPublic: false };
}

function readEc(jwk: Jwk, namedCurve: string): KeyMaterial {
  const curve = CURVES[namedCurve];
  if (curve === undefined || jwk['crv'] !== namedCurve) throw wrong(`'crv' is not '${namedCurve}'`);
  const coordinate = (member: string): Bytes => {
    const bytes = fromBase64Url(jwk[member], member);
    if (bytes.length !== curve.size) throw wrong(`'${member}' does not have ${curve.size} bytes`);
    return bytes;
  };
  const publicRaw = concatBytes(Uint8Array.of(4), coordinate('x'), coordinate('y'));
  if (jwk['d'] === undefined) return { format: 'raw', bytes: publicRaw, isPublic: true };
  // Without the public point: OpenSSL computes it, and it is compared.
  const inner = der(SEQUENCE, ONE, der(OCTET_STRING, coordinate('d')));
  const identifier = der(SEQUENCE, der(OID, EC_OID), der(OID, curve.oid));
  const bytes = der(SEQUENCE, ZERO, identifier, der(OCTET_STRING, inner));
  return { format: 'pkcs8', bytes, isPublic: false, publicRaw };
}

function readOkp(jwk: Jwk, name: string): KeyMaterial {
  const { arc, size } = OKPS[name] ?? { arc: 0, size: 0 };
  if (jwk['crv'] !== name) throw wrong(`'crv' is not '${name}'`);
  const part = (member: string): Bytes => {
    const bytes = fromBase64Url(jwk[member], member);
    if (bytes.length !== size) throw wrong(`'${member}' does not have ${size} bytes`);
    return bytes;
  };
  const publicRaw = part('x');
  if (jwk['d'] === undefined) return { format: 'raw', bytes: publicRaw, isPublic: true };
  const secret = der(OCTET_STRING, der(OCTET_STRING, part('d')));
  const bytes = der(SEQUENCE, ZERO, der(SEQUENCE, der(OID, [0x2b, 0x65, arc])), secret);
  return { format: 'pkcs8', bytes, isPublic: false, publicRaw };
}

/** In which formats the process must give a key, for {@link writeJwk}. */
export const formatsForJwk = (name: string, type: string): readonly ('raw' | 'spki' | 'pkcs8')[] => {
  if (type === 'private') return kind(name) === 'RSA' ? ['pkcs8'] : ['pkcs8', 'raw'];
  return kind(name) === 'RSA' ? ['spki'] : ['raw'];
};

/** `pkcs8` or `spki`, and `raw`: of the public half, where there is one. */
export function writeJwk(
  algorithm: KeyAlgorithm,
  type: string,
  parts: { readonly raw?: Bytes; readonly spki?: Bytes; readonly pkcs8?: Bytes },
): Jwk {
  const kty = kind(algorithm.name);
  const none = new Uint8Array(0);
  const [alg] = algsOf(algorithm);
  const jwk: Jwk = { kty, ...(alg === undefined ? {} : { alg }) };
  const { raw = none, spki = none, pkcs8 = none } = parts;
  if (kty === 'oct') return { ...jwk, k: toBase64Url(raw) };
  if (kty === 'RSA') {
    const members = type === 'private' ? ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'] : ['n', 'e'];
    const integers =
      type === 'private'
        ? inside(inside(pkcs8, 0)[2] ?? none, 0).slice(1) // without the version
        : inside((inside(spki, 0)[1] ?? none).subarray(1), 0); // without the count of unused bits
    members.forEach((member, i) => (jwk[member] = toBase64Url(unsigned(integers[i] ?? none))));
    return jwk;
  }
  const secret = inside(pkcs8, 0)[2] ?? none;
  if (kty === 'OKP') {
    Object.assign(jwk, { crv: algorithm.name, x: toBase64Url(raw) });
    return type === 'private' ? { ...jwk, d: toBase64Url(elements(secret)[0] ?? none) } : jwk;
  }
  const half = (raw.length - 1) / 2;
  const [x, y] = [raw.subarray(1, 1 + half), raw.subarray(1 + half)];
  Object.assign(jwk, { crv: algorithm.namedCurve, x: toBase64Url(x), y: toBase64Url(y) });
  return type === 'private' ? { ...jwk, d: toBase64Url(inside(secret, 0)[1] ?? none) } : jwk;
}

/** What is in the element at this place. */
const inside = (bytes: Bytes, index: number): Bytes[] =>
  bytes.length === 0 ? [] : elements(elements(bytes)[index] ?? new Uint8Array(0));
