import { handleOf, normalize, type Algorithm } from './crypto-algorithms.ts';
import {
  isCryptoKey,
  KEY_USAGES,
  makeKey,
  slotsOf,
  type CryptoKey,
  type KeyAlgorithm,
  type KeySlots,
  type KeyUsage,
} from './crypto-key.ts';
import { DOMException } from './dom-exception.ts';
import { formatsForJwk, readJwk, writeJwk, type Jwk, type KeyMaterial } from './jwk.ts';
import { AES_BITS, blockBits, checkUsages, usagesFor } from './key-rules.ts';
import { callService } from './host.ts';
import { decodeUtf8, encodeUtf8 } from './utf8.ts';
import { copyBytes, enforceRange, enumOf, isObject, needArguments, sequenceOf } from './web-idl.ts';
import type { KeyInfo } from '../services/cryptography.ts';

const FORMATS = ['raw', 'spki', 'pkcs8', 'jwk'] as const;
type Format = (typeof FORMATS)[number];
type Pair = { readonly publicKey: KeyInfo; readonly privateKey: KeyInfo };
interface CryptoKeyPair {
  readonly publicKey: CryptoKey;
  readonly privateKey: CryptoKey;
}

const ask = <T>(request: object): Promise<T> => callService<T>('cryptography', request);
const refuse = (name: string, message: string): never => {
  throw new DOMException(message, name);
};

export { CryptoKey } from './crypto-key.ts';

/** A member that was converted to a string when the algorithm was normalized. */
const text = (member: unknown): string => (typeof member === 'string' ? member : '');

/** Marks the constructor call of our own; nobody outside has it. */
const OURS = Object.freeze({});

/** Web Cryptography API §14. What an algorithm does is done by the process; what a key may be used for is held here. */
export class SubtleCrypto {
  readonly #ours = true;
  constructor(...incoming: unknown[]) {
    if (incoming[0] !== OURS) throw new TypeError('Illegal constructor');
  }
  async encrypt(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    this.#check(arguments.length, 3, 'encrypt');
    const params = normalize('encrypt', algorithm);
    return runCipher('encrypt', params, usable(key, params.name, 'encrypt'), copyBytes(data));
  }
  async decrypt(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    this.#check(arguments.length, 3, 'decrypt');
    const params = normalize('decrypt', algorithm);
    return runCipher('decrypt', params, usable(key, params.name, 'decrypt'), copyBytes(data));
  }
  async sign(algorithm: unknown, key: unknown, data: unknown): Promise<ArrayBuffer> {
    this.#check(arguments.length, 3, 'sign');
    const params = normalize('sign', algorithm);
    const bytes = copyBytes(data);
    return ask({ op: 'sign', params, key: handleOf(usable(key, params.name, 'sign')), data: bytes.buffer });
  }
  async verify(algorithm: unknown, key: unknown, signature: unknown, data: unknown): Promise<boolean> {
    this.#check(arguments.length, 4, 'verify');
    const params = normalize('verify', algorithm);
    const [given, bytes] = [copyBytes(signature, 'the signature'), copyBytes(data)];
    const request = { op: 'verify', params, signature: given.buffer, data: bytes.buffer };
    return ask({ ...request, key: handleOf(usable(key, params.name, 'verify')) });
  }
  async digest(algorithm: unknown, data: unknown): Promise<ArrayBuffer> {
    this.#check(arguments.length, 2, 'digest');
    const { name } = normalize('digest', algorithm);
    return ask({ op: 'digest', hash: name, data: copyBytes(data).buffer });
  }
  async generateKey(algorithm: unknown, extractable: unknown, keyUsages: unknown): Promise<CryptoKey | CryptoKeyPair> {
    this.#check(arguments.length, 3, 'generateKey');
    const usages = usagesOf(keyUsages);
    return generate(normalize('generateKey', algorithm), Boolean(extractable), usages);
  }
  async deriveKey(
    algorithm: unknown,
    baseKey: unknown,
    derivedKeyType: unknown,
    extractable: unknown,
    keyUsages: unknown,
  ): Promise<CryptoKey> {
    this.#check(arguments.length, 5, 'deriveKey');
    const usages = usagesOf(keyUsages);
    const params = normalize('deriveBits', algorithm);
    const wanted = normalize('importKey', derivedKeyType);
    const length = keyLength(normalize('get key length', derivedKeyType));
    const secret = await derive(params, usable(baseKey, params.name, 'deriveKey'), length);
    const material: KeyMaterial = { format: 'raw', bytes: new Uint8Array(secret), isPublic: false };
    return importMaterial(material, wanted, Boolean(extractable), usages);
  }
  async deriveBits(algorithm: unknown, baseKey: unknown, length: unknown = null): Promise<ArrayBuffer> {
    this.#check(arguments.length, 2, 'deriveBits');
    const params = normalize('deriveBits', algorithm);
    const bits = length === null ? null : enforceRange(length, 0xffff_ffff, 'the length');
    return derive(params, usable(baseKey, params.name, 'deriveBits'), bits);
  }
  async importKey(
    format: unknown,
    keyData: unknown,
    algorithm: unknown,
    extractable: unknown,
    keyUsages: unknown,
  ): Promise<CryptoKey> {
    this.#check(arguments.length, 5, 'importKey');
    const wanted = enumOf(format, FORMATS, 'the format');
    const usages = usagesOf(keyUsages);
    const isBytes = keyData instanceof ArrayBuffer || ArrayBuffer.isView(keyData);
    if (wanted === 'jwk' ? isBytes || !isObject(keyData) : !isBytes)
      throw new TypeError('the key does not come in the form of its format');
    const data = wanted === 'jwk' ? { ...(keyData as Jwk) } : copyBytes(keyData);
    return importKey(wanted, data, normalize('importKey', algorithm), Boolean(extractable), usages);
  }
  async exportKey(format: unknown, key: unknown): Promise<ArrayBuffer | Jwk> {
    this.#check(arguments.length, 2, 'exportKey');
    const wanted = enumOf(format, FORMATS, 'the format');
    return exportKey(wanted, cryptoKey(key));
  }
  async wrapKey(format: unknown, key: unknown, wrappingKey: unknown, wrapAlgorithm: unknown): Promise<ArrayBuffer> {
    this.#check(arguments.length, 4, 'wrapKey');
    const wanted = enumOf(format, FORMATS, 'the format');
    const params = wrapParams('wrapKey', wrapAlgorithm);
    const wrapping = usable(wrappingKey, params.name, 'wrapKey');
    const exported = await exportKey(wanted, cryptoKey(key));
    const bytes = exported instanceof ArrayBuffer ? new Uint8Array(exported) : encodeUtf8(JSON.stringify(exported));
    return runCipher('encrypt', params, wrapping, bytes);
  }
  async unwrapKey(
    format: unknown,
    wrappedKey: unknown,
    unwrappingKey: unknown,
    unwrapAlgorithm: unknown,
    unwrappedKeyAlgorithm: unknown,
    extractable: unknown,
    keyUsages: unknown,
  ): Promise<CryptoKey> {
    this.#check(arguments.length, 7, 'unwrapKey');
    const wanted = enumOf(format, FORMATS, 'the format');
    const usages = usagesOf(keyUsages);
    const wrapped = copyBytes(wrappedKey, 'the wrapped key');
    const params = wrapParams('unwrapKey', unwrapAlgorithm);
    const target = normalize('importKey', unwrappedKeyAlgorithm);
    const bytes = await runCipher('decrypt', params, usable(unwrappingKey, params.name, 'unwrapKey'), wrapped);
    const data = wanted === 'jwk' ? parseJwk(bytes) : new Uint8Array(bytes);
    return importKey(wanted, data, target, Boolean(extractable), usages);
  }
  #check(given: number, needed: number, operation: string): void {
    void this.#ours; // throws for another `this`
    needArguments(given, needed, operation);
  }
}
export const subtle = new SubtleCrypto(OURS);

function cryptoKey(value: unknown): CryptoKey {
  if (!isCryptoKey(value)) throw new TypeError('expected a CryptoKey');
  return value;
}
function usable(value: unknown, algorithm: string, usage: KeyUsage): CryptoKey {
  const key = cryptoKey(value);
  const slots = slotsOf(key);
  if (slots.algorithm.name !== algorithm) refuse('InvalidAccessError', `the key is for ${slots.algorithm.name}`);
  if (!slots.usages.includes(usage)) refuse('InvalidAccessError', `the key is not for '${usage}'`);
  return key;
}
/** In the order of the standard, each once. */
function usagesOf(value: unknown): KeyUsage[] {
  const given = sequenceOf(value, 'the usages').map((usage) => enumOf(usage, KEY_USAGES, 'a usage'));
  return KEY_USAGES.filter((usage) => given.includes(usage));
}

function wrapParams(operation: 'wrapKey' | 'unwrapKey', algorithm: unknown): Algorithm {
  try {
    return normalize(operation, algorithm);
  } catch {
    return normalize(operation === 'wrapKey' ? 'encrypt' : 'decrypt', algorithm);
  }
}

async function runCipher(
  op: 'encrypt' | 'decrypt',
  params: Algorithm,
  key: CryptoKey,
  data: Uint8Array<ArrayBuffer>,
): Promise<ArrayBuffer> {
  const { name, tagLength, iv, counter, length } = params;
  const lengthOf = (buffer: unknown): number => (buffer as ArrayBuffer).byteLength;
  if (name === 'AES-CBC' && lengthOf(iv) !== 16) refuse('OperationError', 'iv does not have 16 bytes');
  if (name === 'AES-CTR' && (lengthOf(counter) !== 16 || length === 0 || Number(length) > 128))
    refuse('OperationError', 'counter does not have 16 bytes, or length is not from 1 to 128');
  if (name === 'AES-GCM' && tagLength !== undefined && ![32, 64, 96, 104, 112, 120, 128].includes(Number(tagLength)))
    refuse('OperationError', 'tagLength is not one of AES-GCM');
  return ask({ op, params, key: handleOf(key), data: data.buffer });
}

async function generate(
  algorithm: Algorithm,
  extractable: boolean,
  usages: readonly KeyUsage[],
): Promise<CryptoKey | CryptoKeyPair> {
  const { name } = algorithm;
  const [secretUsages, publicUsages] = [usagesFor(name, 'private'), usagesFor(name, 'public')];
  checkUsages(usages, [...secretUsages, ...publicUsages]);
  if (name.startsWith('AES-') && !AES_BITS.includes(Number(algorithm['length'])))
    refuse('OperationError', 'AES keys have 128, 192 or 256 bits');
  const hash = typeof algorithm['hash'] === 'string' ? { hash: { name: algorithm['hash'] } } : {};
  const length = name === 'HMAC' ? { length: algorithm['length'] ?? blockBits(text(algorithm['hash'])) } : {};
  if (length.length === 0) refuse('OperationError', 'an HMAC key has at least one bit');
  const curve = algorithm['namedCurve'];
  if (curve !== undefined && !['P-256', 'P-384', 'P-521'].includes(text(curve)))
    refuse('NotSupportedError', 'the curve is not supported');
  if ('publicExponent' in algorithm && !isUsualExponent(algorithm['publicExponent'] as ArrayBuffer))
    refuse('OperationError', 'the public exponent is neither 3 nor 65537');
  const keep = (usage: KeyUsage): boolean => usages.includes(usage);
  const full = { ...algorithm, ...length };
  if (secretUsages.filter(keep).length === 0) refuse('SyntaxError', 'a key without usages is of no use');
  const made = await ask<KeyInfo | Pair>({ op: 'generate', algorithm: full });
  const describe = (info: KeyInfo): KeyAlgorithm => ({ ...algorithmOf(algorithm, info), ...hash });
  if ('key' in made)
    return makeKey({ info: made, algorithm: describe(made), extractable, usages: secretUsages.filter(keep) });
  const { publicKey, privateKey } = made;
  return {
    publicKey: makeKey({
      info: publicKey,
      algorithm: describe(publicKey),
      extractable: true,
      usages: publicUsages.filter(keep),
    }),
    privateKey: makeKey({
      info: privateKey,
      algorithm: describe(privateKey),
      extractable,
      usages: secretUsages.filter(keep),
    }),
  };
}

function isUsualExponent(buffer: ArrayBuffer): boolean {
  const digits = new Uint8Array(buffer).join().replace(/^(0,)+/, '');
  return digits === '3' || digits === '1,0,1';
}

/** `CryptoKey.algorithm` for a key that the process made of these parameters. */
function algorithmOf({ name, hash, namedCurve, length }: Algorithm, info: KeyInfo): KeyAlgorithm {
  const rsa =
    info.publicExponent === undefined
      ? {}
      : { modulusLength: info.length, publicExponent: new Uint8Array(info.publicExponent) };
  const isSized = name === 'HMAC' || name.startsWith('AES-');
  return {
    name,
    ...rsa,
    ...(isSized ? { length: typeof length === 'number' ? length : info.length } : {}),
    ...(hash === undefined ? {} : { hash: { name: text(hash) } }),
    ...(namedCurve === undefined ? {} : { namedCurve: text(namedCurve) }),
  };
}

async function importKey(
  format: Format,
  data: Jwk | Uint8Array<ArrayBuffer>,
  algorithm: Algorithm,
  extractable: boolean,
  usages: readonly KeyUsage[],
): Promise<CryptoKey> {
  const { name } = algorithm;
  const isSecret = /^(AES-|HMAC$|PBKDF2$|HKDF$)/.test(name);
  const isAnyEc = /^(EC|Ed|X)/.test(name);
  const supported = isSecret
    ? format === 'raw' || (format === 'jwk' && name !== 'PBKDF2' && name !== 'HKDF')
    : format !== 'raw' || isAnyEc;
  if (!supported) refuse('NotSupportedError', `${name} keys do not come as '${format}'`);
  const isPublic =
    !isSecret && (format === 'spki' || format === 'raw' || (format === 'jwk' && (data as Jwk)['d'] === undefined));
  checkUsages(usages, usagesFor(name, isPublic ? 'public' : 'private'));
  const curve = algorithm['namedCurve'];
  if (curve !== undefined && !['P-256', 'P-384', 'P-521'].includes(text(curve)))
    refuse('NotSupportedError', 'the curve is not supported');
  const described: KeyAlgorithm = {
    name,
    ...(algorithm['hash'] === undefined ? {} : { hash: { name: text(algorithm['hash']) } }),
    ...(curve === undefined ? {} : { namedCurve: text(curve) }),
  };
  const material: KeyMaterial =
    format === 'jwk'
      ? readJwk(data as Jwk, described, extractable, usages)
      : { format, bytes: data as Uint8Array<ArrayBuffer>, isPublic };
  return importMaterial(material, algorithm, extractable, usages);
}

async function importMaterial(
  { format, bytes, isPublic, publicRaw }: KeyMaterial,
  algorithm: Algorithm,
  extractable: boolean,
  usages: readonly KeyUsage[],
): Promise<CryptoKey> {
  const { name } = algorithm;
  checkUsages(usages, usagesFor(name, isPublic ? 'public' : 'private'));
  const bits = bytes.length * 8;
  if (name.startsWith('AES-') && !AES_BITS.includes(bits)) refuse('DataError', 'AES keys have 128, 192 or 256 bits');
  const { length: wantedBits, ...params } = algorithm;
  if (name === 'HMAC' && (bits === 0 || (typeof wantedBits === 'number' && (wantedBits > bits || wantedBits <= bits - 8))))
    refuse('DataError', 'the key does not have the length that is given'); // prettier-ignore
  if ((name === 'PBKDF2' || name === 'HKDF') && extractable) refuse('SyntaxError', `${name} keys are not extractable`);
  const info = await ask<KeyInfo>({ op: 'import', format, algorithm: params, isPublic, data: bytes.buffer });
  if (publicRaw !== undefined && !sameBytes(publicRaw, await publicOf(info.key)))
    refuse('DataError', 'the public half does not belong to the private one');
  if (info.type !== 'public' && usages.length === 0) refuse('SyntaxError', 'a key without usages is of no use');
  const slots: KeySlots = { info, algorithm: algorithmOf(algorithm, info), extractable, usages };
  return makeKey(slots);
}

/** The public half of a private key, raw. */
async function publicOf(key: number): Promise<Uint8Array<ArrayBuffer>> {
  const { key: half } = await ask<KeyInfo>({ op: 'public', key });
  return new Uint8Array(await ask<ArrayBuffer>({ op: 'export', key: half, format: 'raw' }));
}
const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i]);

async function exportKey(format: Format, key: CryptoKey): Promise<ArrayBuffer | Jwk> {
  const { info, algorithm, extractable, usages } = slotsOf(key);
  const { name } = algorithm;
  if (name === 'PBKDF2' || name === 'HKDF') refuse('NotSupportedError', `${name} keys cannot be exported`);
  if (!extractable) refuse('InvalidAccessError', 'the key is not extractable');
  if (format !== 'jwk') {
    const fits = { raw: info.type !== 'private', spki: info.type === 'public', pkcs8: info.type === 'private' }[format];
    if (name.startsWith('RSA') && format === 'raw') refuse('NotSupportedError', 'RSA keys have no raw form');
    if (info.type === 'secret' && format !== 'raw')
      refuse('NotSupportedError', `${name} keys do not go out as '${format}'`);
    if (!fits) refuse('InvalidAccessError', `a ${info.type} key does not go out as '${format}'`);
    return ask({ op: 'export', key: info.key, format });
  }
  const parts: { raw?: Uint8Array<ArrayBuffer>; spki?: Uint8Array<ArrayBuffer>; pkcs8?: Uint8Array<ArrayBuffer> } = {};
  for (const part of formatsForJwk(name, info.type)) {
    parts[part] =
      part === 'raw' && info.type === 'private'
        ? await publicOf(info.key)
        : new Uint8Array(await ask<ArrayBuffer>({ op: 'export', key: info.key, format: part }));
  }
  return { ...writeJwk(algorithm, info.type, parts), key_ops: [...usages], ext: true };
}

function parseJwk(bytes: ArrayBuffer): Jwk {
  let value: unknown;
  try {
    value = JSON.parse(decodeUtf8(new Uint8Array(bytes)));
  } catch {
    refuse('DataError', 'the wrapped key is not JSON');
  }
  if (!isObject(value)) refuse('DataError', 'the wrapped key is not a JSON Web Key');
  return value as Jwk;
}

/** Bits of a key that is derived; null where there is no length (Web Cryptography API, "get key length"). */
function keyLength({ name, length, hash }: Algorithm): number | null {
  if (name === 'HKDF' || name === 'PBKDF2') return null;
  if (name === 'HMAC') {
    if (length === 0) throw new TypeError('an HMAC key has at least one bit');
    return typeof length === 'number' ? length : blockBits(text(hash));
  }
  if (!AES_BITS.includes(Number(length))) refuse('OperationError', 'AES keys have 128, 192 or 256 bits');
  return Number(length);
}

async function derive(params: Algorithm, key: CryptoKey, length: number | null): Promise<ArrayBuffer> {
  const { name, public: other, iterations } = params;
  if (name === 'HKDF' || name === 'PBKDF2') {
    if (length === null || length % 8 !== 0) return refuse('OperationError', 'the length is not whole bytes');
    if (iterations === 0) refuse('OperationError', 'PBKDF2 needs at least one iteration');
    if (length === 0) return new ArrayBuffer(0);
    return ask({ op: 'derive', params, key: handleOf(key), length });
  }
  const theirs = slotsOf(cryptoKey(other));
  const mine = slotsOf(key);
  if (theirs.info.type !== 'public') refuse('InvalidAccessError', "'public' is not a public key");
  if (theirs.algorithm.name !== name || theirs.algorithm.namedCurve !== mine.algorithm.namedCurve)
    refuse('InvalidAccessError', "'public' is a key of another kind");
  const agreed = await ask<ArrayBuffer>({
    op: 'derive',
    params: { name, public: theirs.info.key },
    key: mine.info.key,
    length: 0,
  });
  if (length === null) return agreed;
  if (length > agreed.byteLength * 8) refuse('OperationError', 'the agreement does not give that many bits');
  const cut = new Uint8Array(agreed.slice(0, Math.ceil(length / 8)));
  if (length % 8 !== 0) cut[cut.length - 1] = (cut.at(-1) ?? 0) & (0xff << (8 - (length % 8)));
  return cut.buffer;
}
