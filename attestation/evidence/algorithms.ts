import { contextTag, DER, DerReader, soleSequence, unsignedInteger, wholeBits } from './der.ts';
import { refuse } from './reasons.ts';

export type Curve = 'P-256' | 'P-384';
export type Hash = 'SHA-256' | 'SHA-384' | 'SHA-512';

/** A public key of a certificate; `spki` is its SubjectPublicKeyInfo, DER. */
export type PublicKey =
  | { readonly type: 'ec'; readonly curve: Curve; readonly spki: Uint8Array }
  | { readonly type: 'rsa'; readonly modulusBits: number; readonly spki: Uint8Array };

/** How X.509 objects are signed; ECDSA signatures are DER ECDSA-Sig-Values there. */
export type SignatureAlgorithm =
  | { readonly type: 'ecdsa'; readonly hash: Hash }
  | { readonly type: 'rsa-pkcs1'; readonly hash: Hash }
  /** MGF1 with the same hash. */
  | { readonly type: 'rsa-pss'; readonly hash: Hash; readonly saltBytes: number };

const OID = {
  ecPublicKey: '1.2.840.10045.2.1',
  rsaEncryption: '1.2.840.113549.1.1.1',
  mgf1: '1.2.840.113549.1.1.8',
  rsaPss: '1.2.840.113549.1.1.10',
};
const CURVES: Readonly<Record<string, Curve>> = { '1.2.840.10045.3.1.7': 'P-256', '1.3.132.0.34': 'P-384' };
const POINT_BYTES = { 'P-256': 65, 'P-384': 97 };
const HASHES: Readonly<Record<string, Hash>> = {
  '2.16.840.1.101.3.4.2.1': 'SHA-256',
  '2.16.840.1.101.3.4.2.2': 'SHA-384',
  '2.16.840.1.101.3.4.2.3': 'SHA-512',
};
const ECDSA: Readonly<Record<string, Hash>> = {
  '1.2.840.10045.4.3.2': 'SHA-256',
  '1.2.840.10045.4.3.3': 'SHA-384',
  '1.2.840.10045.4.3.4': 'SHA-512',
};
const RSA_PKCS1: Readonly<Record<string, Hash>> = {
  '1.2.840.113549.1.1.11': 'SHA-256',
  '1.2.840.113549.1.1.12': 'SHA-384',
  '1.2.840.113549.1.1.13': 'SHA-512',
};
/** Below, a key can be broken; above, nobody has one and verification grows slow. */
const RSA_MODULUS_BITS = { min: 2048, max: 8192 };
/** Longest salt: that of the longest hash. */
const SALT_BYTES_MAX = 64;

/**
 * Parses SubjectPublicKeyInfo: uncompressed points of P-256 and P-384 (not yet shown to be on the curve), and RSA.
 *
 * @throws {Refusal} `parse/der`, `parse/unsupported-algorithm`
 */
export function parsePublicKey(spki: Uint8Array): PublicKey {
  const outer = soleSequence(spki, 'subjectPublicKeyInfo');
  const algorithm = outer.sequence('key algorithm');
  const type = algorithm.oid('key algorithm');
  const bits = wholeBits(outer.take(DER.bitString, 'public key'), 'public key');
  outer.finish('subjectPublicKeyInfo');
  if (type === OID.rsaEncryption) {
    takeNull(algorithm, 'key algorithm');
    return { type: 'rsa', modulusBits: parseRsaKey(bits), spki };
  }
  const curve = type === OID.ecPublicKey ? CURVES[algorithm.oid('curve')] : undefined;
  if (curve === undefined) refuse('parse/unsupported-algorithm', 'public key is neither RSA nor on P-256 or P-384');
  algorithm.finish('key algorithm');
  if (bits.length !== POINT_BYTES[curve] || bits[0] !== 4)
    refuse('parse/der', 'public key is not an uncompressed point');
  return { type: 'ec', curve, spki };
}

/**
 * Parses a signature's AlgorithmIdentifier: ECDSA, RSA PKCS #1 v1.5, and RSA-PSS with its parameters written out
 * (RFC 4055 §3.1; the defaults would mean SHA-1), each with SHA-256, -384 or -512.
 *
 * @throws {Refusal} `parse/der`, `parse/unsupported-algorithm`
 */
export function parseSignatureAlgorithm(bytes: Uint8Array): SignatureAlgorithm {
  const algorithm = soleSequence(bytes, 'signatureAlgorithm');
  const oid = algorithm.oid('signatureAlgorithm');
  if (oid === OID.rsaPss) return parsePss(algorithm);
  const ecdsa = ECDSA[oid];
  if (ecdsa !== undefined) {
    algorithm.finish('signatureAlgorithm');
    return { type: 'ecdsa', hash: ecdsa };
  }
  const rsa = RSA_PKCS1[oid];
  if (rsa === undefined) refuse('parse/unsupported-algorithm', `signature algorithm ${oid} is not supported`);
  takeNull(algorithm, 'signatureAlgorithm');
  return { type: 'rsa-pkcs1', hash: rsa };
}

function parsePss(algorithm: DerReader): SignatureAlgorithm {
  const parameters = algorithm.sequence('PSS parameters');
  algorithm.finish('signatureAlgorithm');
  const tagged = (n: number): DerReader => new DerReader(parameters.take(contextTag(n), `PSS parameter ${n}`));
  const hash = parseHash(tagged(0));
  const mask = tagged(1);
  const maskAlgorithm = mask.sequence('PSS mask generation');
  mask.finish('PSS mask generation');
  if (maskAlgorithm.oid('PSS mask generation') !== OID.mgf1 || parseHash(maskAlgorithm) !== hash)
    refuse('parse/unsupported-algorithm', 'PSS mask generation is not MGF1 with the same hash');
  const salt = tagged(2);
  const saltBytes = salt.integer('PSS salt length');
  salt.finish('PSS salt length');
  if (saltBytes > SALT_BYTES_MAX) refuse('parse/unsupported-algorithm', `PSS salt has ${saltBytes} bytes`);
  if (!parameters.done) {
    const trailer = tagged(3);
    if (trailer.integer('PSS trailer') !== 1) refuse('parse/unsupported-algorithm', 'PSS trailer is not 1');
    trailer.finish('PSS trailer');
  }
  parameters.finish('PSS parameters');
  return { type: 'rsa-pss', hash, saltBytes };
}

function parseHash(reader: DerReader): Hash {
  const algorithm = reader.sequence('hash algorithm');
  reader.finish('hash algorithm');
  const oid = algorithm.oid('hash algorithm');
  takeNull(algorithm, 'hash algorithm');
  return HASHES[oid] ?? refuse('parse/unsupported-algorithm', `hash algorithm ${oid} is not supported`);
}

/** Parameters that are NULL or left out (RFC 4055 §2.1 asks to take both). */
function takeNull(algorithm: DerReader, field: string): void {
  if ((algorithm.optional(DER.null, field)?.content.length ?? 0) > 0) refuse('parse/der', `${field} has a long NULL`);
  algorithm.finish(field);
}

/** Gives the length of the modulus in bits. */
function parseRsaKey(bytes: Uint8Array): number {
  const key = soleSequence(bytes, 'RSA key');
  const modulus = unsignedInteger(key.take(DER.integer, 'modulus'), 'modulus');
  const exponent = key.integer('public exponent');
  key.finish('RSA key');
  const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24;
  if (bits < RSA_MODULUS_BITS.min || bits > RSA_MODULUS_BITS.max)
    refuse('parse/unsupported-algorithm', `RSA modulus has ${bits} bits`);
  if (exponent < 3 || exponent % 2 === 0) refuse('parse/unsupported-algorithm', `RSA public exponent is ${exponent}`);
  return bits;
}
