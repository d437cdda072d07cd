import { createPublicKey, KeyObject, webcrypto } from 'node:crypto';
import * as z from 'zod/mini'; // all of Zod would be most of the sandbox's program
import {
  cipherParams,
  deriveParams,
  generateAlgorithm,
  handle,
  hash,
  importAlgorithm,
  RSA_BITS_MAX,
  signParams,
} from './key-algorithms.ts';
import { BYTE_MS, CALL_MS, keyCostMs, pbkdf2CostMs, rsaGenerateCostMs } from './key-costs.ts';
import { Refusal, type Charge, type Service } from './service.ts';

const { subtle } = webcrypto;
const data = z.instanceof(ArrayBuffer);
const request = z.discriminatedUnion('op', [
  z.strictObject({ op: z.literal('digest'), hash, data }),
  z.strictObject({ op: z.literal('generate'), algorithm: generateAlgorithm }),
  z.strictObject({
    op: z.literal('import'),
    format: z.enum(['raw', 'spki', 'pkcs8']),
    algorithm: importAlgorithm,
    isPublic: z.boolean(),
    data,
  }),
  z.strictObject({ op: z.literal('export'), key: handle, format: z.enum(['raw', 'spki', 'pkcs8']) }),
  z.strictObject({ op: z.literal('public'), key: handle }),
  z.strictObject({ op: z.literal('encrypt'), key: handle, params: cipherParams, data }),
  z.strictObject({ op: z.literal('decrypt'), key: handle, params: cipherParams, data }),
  z.strictObject({ op: z.literal('sign'), key: handle, params: signParams, data }),
  z.strictObject({ op: z.literal('verify'), key: handle, params: signParams, data, signature: data }),
  z.strictObject({
    op: z.literal('derive'),
    key: handle,
    params: deriveParams,
    length: z.int().check(z.nonnegative(), z.maximum(8 * 65_536)),
  }),
]);
type Message<Op> = Extract<z.infer<typeof request>, { op: Op }>;

/** What the platform has to know of a key; the material stays here. */
export interface KeyInfo {
  readonly key: number;
  readonly type: webcrypto.KeyType;
  /** Length of a secret key, or of an RSA modulus, in bits. */
  readonly length: number;
  readonly publicExponent?: ArrayBuffer;
}

/** Keys of an invocation. */
const KEYS_MAX = 4096;

/**
 * The Web Cryptography API by Node's own. Usages and extractability are the platform's to hold: they keep a function from its own mistakes, and
 * nobody from anything. So keys are made with all usages here.
 */
export function cryptography(charge: Charge): Service {
  const keys = new Map<number, webcrypto.CryptoKey>();
  let lastKey = 0;

  function keep(key: webcrypto.CryptoKey): KeyInfo {
    if (keys.size >= KEYS_MAX) throw new Refusal('QuotaExceededError', `more than ${KEYS_MAX} keys`);
    keys.set(++lastKey, key);
    const { algorithm, type } = key;
    const length =
      'modulusLength' in algorithm ? algorithm.modulusLength : 'length' in algorithm ? algorithm.length : 0;
    const exponent = 'publicExponent' in algorithm ? (algorithm.publicExponent as Uint8Array) : undefined;
    return {
      key: lastKey,
      type,
      length: Number(length),
      ...(exponent === undefined ? {} : { publicExponent: Uint8Array.from(exponent).buffer }),
    };
  }
  function find(id: number): webcrypto.CryptoKey {
    const key = keys.get(id);
    if (key === undefined) throw new Refusal('OperationError', 'there is no such key');
    return key;
  }
  /** A key, and the charge for using it on so many bytes. */
  function use(id: number, bytes: number): webcrypto.CryptoKey {
    const key = find(id);
    charge(CALL_MS + bytes * BYTE_MS + keyCostMs(key.algorithm, key.type === 'private'));
    return key;
  }

  async function generate({ algorithm }: Message<'generate'>): Promise<unknown> {
    charge(CALL_MS + ('modulusLength' in algorithm ? rsaGenerateCostMs(algorithm.modulusLength) : 1));
    const params = 'publicExponent' in algorithm ? { ...algorithm, publicExponent: new Uint8Array(algorithm.publicExponent) } : algorithm; // prettier-ignore
    const made = await subtle.generateKey(params as webcrypto.RsaHashedKeyGenParams, true, usagesOf(algorithm.name));
    return 'privateKey' in made
      ? { publicKey: keep(made.publicKey), privateKey: keep(made.privateKey) }
      : keep(made as unknown as webcrypto.CryptoKey);
  }

  async function importKey({ format, algorithm, isPublic, data: material }: Message<'import'>): Promise<KeyInfo> {
    charge(CALL_MS + material.byteLength * BYTE_MS + keyCostMs(algorithm, !isPublic));
    const extractable = algorithm.name !== 'PBKDF2' && algorithm.name !== 'HKDF'; // the standard has them so
    const usages = usagesOf(algorithm.name).filter(
      (usage) => isSecret(algorithm.name) || PUBLIC_USAGES.has(usage) === isPublic,
    );
    const key = await subtle.importKey(format, material, algorithm as webcrypto.Algorithm, extractable, usages);
    if ('modulusLength' in key.algorithm && Number(key.algorithm.modulusLength) > RSA_BITS_MAX)
      throw new Refusal('NotSupportedError', `RSA keys have at most ${RSA_BITS_MAX} bits here`);
    return keep(key);
  }

  async function cipher({ op, key: id, params, data: input }: Message<'encrypt' | 'decrypt'>): Promise<ArrayBuffer> {
    const key = use(id, input.byteLength);
    if (params.name === 'AES-KW') return op === 'encrypt' ? wrap(key, input) : unwrap(key, input);
    return subtle[op](params, key, input);
  }

  async function derive({ key: id, params, length }: Message<'derive'>): Promise<ArrayBuffer> {
    const key = use(id, 0);
    if (params.name === 'PBKDF2') charge(pbkdf2CostMs(params.hash, params.iterations, length));
    const full = 'public' in params ? { name: params.name, public: find(params.public) } : params;
    // A length of 0 stands for all that an agreement gives.
    return subtle.deriveBits(full as webcrypto.EcdhKeyDeriveParams, key, 'public' in params ? null : length);
  }

  return {
    async answer(untrusted) {
      const message = request.parse(untrusted);
      switch (message.op) {
        case 'digest':
          charge(CALL_MS + message.data.byteLength * BYTE_MS);
          return subtle.digest(message.hash, message.data);
        case 'generate':
          return generate(message);
        case 'import':
          return importKey(message);
        case 'export':
          return subtle.exportKey(message.format, use(message.key, 0));
        case 'public': {
          const key = use(message.key, 0);
          const usages = usagesOf(key.algorithm.name).filter((usage) => PUBLIC_USAGES.has(usage));
          const half = createPublicKey(KeyObject.from(key));
          return keep(half.toCryptoKey(key.algorithm as webcrypto.Algorithm, true, usages));
        }
        case 'encrypt':
        case 'decrypt':
          return cipher(message);
        case 'sign':
          return subtle.sign(message.params, use(message.key, message.data.byteLength), message.data);
        case 'verify':
          return subtle.verify(
            message.params,
            use(message.key, message.data.byteLength),
            message.signature,
            message.data,
          );
        case 'derive':
          return derive(message);
        default:
          return message satisfies never;
      }
    },
    close: () => keys.clear(),
  };
}

const PUBLIC_USAGES: ReadonlySet<string> = new Set(['encrypt', 'wrapKey', 'verify']);
const isSecret = (name: string): boolean => /^(AES-|HMAC$|PBKDF2$|HKDF$)/.test(name);

function usagesOf(name: string): webcrypto.KeyUsage[] {
  if (name === 'AES-KW') return ['wrapKey', 'unwrapKey'];
  if (name.startsWith('AES-') || name === 'RSA-OAEP') return ['encrypt', 'decrypt'];
  return ['PBKDF2', 'HKDF', 'ECDH', 'X25519', 'X448'].includes(name) ? ['deriveBits'] : ['sign', 'verify'];
}

// RFC 3394 by way of a key to be wrapped: Node has no other door to it. The bytes pass for an HMAC key, which may be of any length.
const CARRIER = { name: 'HMAC', hash: 'SHA-256' };
async function wrap(key: webcrypto.CryptoKey, bytes: ArrayBuffer): Promise<ArrayBuffer> {
  const carrier = await subtle.importKey('raw', bytes, CARRIER, true, ['sign']);
  return subtle.wrapKey('raw', carrier, key, 'AES-KW');
}
async function unwrap(key: webcrypto.CryptoKey, bytes: ArrayBuffer): Promise<ArrayBuffer> {
  return subtle.exportKey('raw', await subtle.unwrapKey('raw', bytes, key, 'AES-KW', CARRIER, true, ['sign']));
}
