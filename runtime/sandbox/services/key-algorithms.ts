import * as z from 'zod/mini'; // all of Zod would be most of the sandbox's program

/** Parameters of algorithms as they come out of an isolate: the Web Cryptography API's dictionaries, with fixed bounds. */

const bytes = z.instanceof(ArrayBuffer);
export const handle = z.int().check(z.nonnegative());
export const hash = z.enum(['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512']);
const curve = z.enum(['P-256', 'P-384', 'P-521']);
const aes = z.enum(['AES-CBC', 'AES-CTR', 'AES-GCM', 'AES-KW']);
const rsa = z.enum(['RSASSA-PKCS1-v1_5', 'RSA-PSS', 'RSA-OAEP']);
const ec = z.enum(['ECDSA', 'ECDH']);
const okp = z.enum(['Ed25519', 'X25519', 'Ed448', 'X448']);

/** Longest HMAC key that is generated, in bits. */
const HMAC_BITS_MAX = 65_536;
/** RSA moduli, in bits: below, OpenSSL warns; above, one call takes seconds. */
const RSA_BITS_MIN = 1024;
export const RSA_BITS_MAX = 4096;

export const generateAlgorithm = z.union([
  z.strictObject({ name: aes, length: z.literal([128, 192, 256]) }),
  z.strictObject({ name: z.literal('HMAC'), hash, length: z.int().check(z.positive(), z.maximum(HMAC_BITS_MAX)) }),
  z.strictObject({
    name: rsa,
    hash,
    modulusLength: z.int().check(z.minimum(RSA_BITS_MIN), z.maximum(RSA_BITS_MAX)),
    publicExponent: bytes.check(z.refine(isUsualExponent)),
  }),
  z.strictObject({ name: ec, namedCurve: curve }),
  z.strictObject({ name: okp }),
]);

/** 3 or 65537, as browsers allow: for others, OpenSSL may search long. */
function isUsualExponent(buffer: ArrayBuffer): boolean {
  const digits = Buffer.from(buffer).toString('hex').replace(/^0+/, '');
  return digits === '3' || digits === '10001';
}

export const importAlgorithm = z.union([
  z.strictObject({ name: aes }),
  z.strictObject({ name: z.literal('HMAC'), hash }),
  z.strictObject({ name: z.enum(['PBKDF2', 'HKDF']) }),
  z.strictObject({ name: rsa, hash }),
  z.strictObject({ name: ec, namedCurve: curve }),
  z.strictObject({ name: okp }),
]);

export const cipherParams = z.union([
  z.strictObject({ name: z.literal('AES-CBC'), iv: bytes }),
  z.strictObject({ name: z.literal('AES-CTR'), counter: bytes, length: z.int().check(z.minimum(1), z.maximum(128)) }),
  z.strictObject({
    name: z.literal('AES-GCM'),
    iv: bytes,
    additionalData: z.optional(bytes),
    tagLength: z.optional(z.int().check(z.minimum(0), z.maximum(128))),
  }),
  z.strictObject({ name: z.literal('AES-KW') }),
  z.strictObject({ name: z.literal('RSA-OAEP'), label: z.optional(bytes) }),
]);

export const signParams = z.union([
  z.strictObject({ name: z.literal(['HMAC', 'RSASSA-PKCS1-v1_5', 'Ed25519']) }),
  z.strictObject({ name: z.literal('Ed448'), context: z.optional(bytes) }),
  z.strictObject({ name: z.literal('RSA-PSS'), saltLength: z.int().check(z.nonnegative(), z.maximum(65_536)) }),
  z.strictObject({ name: z.literal('ECDSA'), hash }),
]);

export const deriveParams = z.union([
  z.strictObject({ name: z.literal('HKDF'), hash, salt: bytes, info: bytes }),
  z.strictObject({
    name: z.literal('PBKDF2'),
    hash,
    salt: bytes,
    iterations: z.int().check(z.positive(), z.maximum(0xffff_ffff)),
  }),
  z.strictObject({ name: z.literal(['ECDH', 'X25519', 'X448']), public: handle }),
]);
