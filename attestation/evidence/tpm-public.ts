import { ByteReader } from '../../proto/index.ts';
import type { PublicKey } from './algorithms.ts';
import { ecPublicKey, RSA_EXPONENT, rsaPublicKey } from './public-key.ts';
import { refuse } from './reasons.ts';
import { parseHash, takeSized, type TpmHash } from './tpm.ts';

/** The public area of a TPM key, as the TPM itself describes it. */
export interface TpmPublic {
  /** TPMT_PUBLIC; the key's name is `nameHash` over it. */
  readonly bytes: Uint8Array;
  readonly nameHash: TpmHash;
  /** TPMA_OBJECT: what the key may do. */
  readonly attributes: number;
  readonly publicKey: PublicKey;
}

/** Bits of TPMA_OBJECT (part 2 §8.3). */
export const TPM_OBJECT = {
  /** The key never leaves its TPM. */
  fixedTpm: 1 << 1,
  fixedParent: 1 << 4,
  /** The TPM itself made the key. */
  sensitiveDataOrigin: 1 << 5,
  /** The key signs only what the TPM made, so nobody can hand it a forged quote. */
  restricted: 1 << 16,
  decrypt: 1 << 17,
  sign: 1 << 18,
} as const;

const RSA = 0x0001;
const ECC = 0x0023;
const NULL = 0x0010;
const CURVES: Readonly<Record<number, 'P-256' | 'P-384'>> = { 0x0003: 'P-256', 0x0004: 'P-384' };
const DIGEST_BYTES_MAX = 64;
const MODULUS_BYTES_MAX = 512;
const COORDINATE_BYTES_MAX = 66;

/**
 * Parses TPMT_PUBLIC or TPM2B_PUBLIC of an RSA or ECC key (TPM 2.0 Library, part 2 §12.2).
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parseTpmPublic(input: Uint8Array): TpmPublic {
  // A TPM2B starts with the length of what follows; a TPMT starts with 1 or 0x23, and is longer than that.
  const isSized = input.length > 2 && ((input[0] ?? 0) << 8) + (input[1] ?? 0) === input.length - 2;
  const bytes = isSized ? input.subarray(2) : input;
  const reader = new ByteReader(bytes);
  const type = reader.u16be('key type');
  if (type !== RSA && type !== ECC)
    refuse('parse/unsupported-key-type', `TPM key type is ${type.toString(16)}, expected 1 (RSA) or 23 (ECC)`);
  const nameHash = parseHash(reader.u16be('nameAlg'), 'nameAlg');
  const attributes = reader.u32be('objectAttributes');
  takeSized(reader, DIGEST_BYTES_MAX, 'authPolicy');
  skipSymmetric(reader);
  skipScheme(reader, 'scheme');
  const publicKey = type === RSA ? parseRsa(reader) : parseEcc(reader);
  reader.finish('TPM public area');
  return { bytes, nameHash, attributes, publicKey };
}

function parseRsa(reader: ByteReader): PublicKey {
  const keyBits = reader.u16be('keyBits');
  const exponent = reader.u32be('exponent');
  // Zero stands for the default.
  if (exponent !== 0 && exponent !== RSA_EXPONENT)
    refuse('parse/unsupported-key-type', `RSA exponent is ${exponent}, expected 65537`);
  const modulus = takeSized(reader, MODULUS_BYTES_MAX, 'RSA modulus');
  if (modulus.length * 8 !== keyBits) refuse('parse/length', `RSA modulus does not have the ${keyBits} bits it claims`);
  return rsaPublicKey(modulus);
}

function parseEcc(reader: ByteReader): PublicKey {
  const id = reader.u16be('curve');
  const curve = CURVES[id] ?? refuse('parse/unsupported-key-type', `TPM curve is ${id}, expected P-256 or P-384`);
  skipScheme(reader, 'kdf');
  const x = takeSized(reader, COORDINATE_BYTES_MAX, 'x');
  const y = takeSized(reader, COORDINATE_BYTES_MAX, 'y');
  return ecPublicKey(curve, x, y);
}

/** TPMT_SYM_DEF_OBJECT; signing keys have none. */
function skipSymmetric(reader: ByteReader): void {
  if (reader.u16be('symmetric') !== NULL) reader.take(4, 'symmetric parameters');
}

/** TPMT_RSA_SCHEME, TPMT_ECC_SCHEME, TPMT_KDF_SCHEME: an algorithm and, unless it is null, its hash. */
function skipScheme(reader: ByteReader, field: string): void {
  if (reader.u16be(field) !== NULL) parseHash(reader.u16be(`${field} hash`), `${field} hash`);
}
