import { concatBytes, fromHex } from '../../proto/index.ts';
import { parsePublicKey, type Curve, type PublicKey } from './algorithms.ts';
import { bitString, integer, sequence } from './der-writer.ts';
import { refuse } from './reasons.ts';

/** AlgorithmIdentifier: rsaEncryption with NULL (RFC 8017 §A.1). */
const RSA = fromHex('300d06092a864886f70d0101010500');
/** AlgorithmIdentifier: ecPublicKey with the curve (RFC 5480 §2.1.1). */
const EC = {
  'P-256': { bytes: 32, algorithm: fromHex('301306072a8648ce3d020106082a8648ce3d030107') },
  'P-384': { bytes: 48, algorithm: fromHex('301006072a8648ce3d020106052b81040022') },
} as const;

/** The only public exponent that TPMs use, and the only one accepted: small ones have a history of forgeries. */
export const RSA_EXPONENT = 65537;
const RSA_BYTES_MIN = 256;
const RSA_BYTES_MAX = 512;

/**
 * An RSA key whose public exponent is 65537. `modulus` is big endian, without leading zeros.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` for less than 2048 or more than 4096 bits.
 */
export function rsaPublicKey(modulus: Uint8Array): PublicKey {
  const [first = 0] = modulus;
  if (modulus.length < RSA_BYTES_MIN || modulus.length > RSA_BYTES_MAX || first < 0x80)
    refuse('parse/unsupported-key-type', `RSA modulus has ${modulus.length} bytes, expected 2048 to 4096 bits`);
  if (((modulus.at(-1) ?? 0) & 1) === 0) refuse('parse/unsupported-key-type', 'RSA modulus is even');
  return publicKey(RSA, sequence(integer(modulus), integer(RSA_EXPONENT)));
}

/**
 * An elliptic key from a point, which is not checked to be on its curve. Coordinates are big endian and may be short.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when a coordinate is too long.
 */
export function ecPublicKey(curve: Curve, x: Uint8Array, y: Uint8Array): PublicKey {
  const { bytes, algorithm } = EC[curve];
  return publicKey(algorithm, concatBytes(Uint8Array.of(4), leftPad(x, bytes, 'x'), leftPad(y, bytes, 'y')));
}

/** Left pads a big endian number with zeros to `length` bytes. */
export function leftPad(bytes: Uint8Array, length: number, field: string): Uint8Array {
  if (bytes.length > length)
    refuse('parse/length', `${field} has ${bytes.length} bytes, at most ${length} are possible`);
  return concatBytes(new Uint8Array(length - bytes.length), bytes);
}

function publicKey(algorithm: Uint8Array, key: Uint8Array): PublicKey {
  return parsePublicKey(sequence(algorithm, bitString(key)));
}
