import { ByteReader } from '../../proto/index.ts';
import type { Hash } from './algorithms.ts';
import { refuse } from './reasons.ts';

/** Hash functions of PCR banks. */
export type TpmHash = 'SHA-1' | Hash;

/** TPM_ALG_ID of the hash functions that TPMs and event logs use (TCG Algorithm Registry). */
export const TPM_HASHES: Readonly<Record<number, TpmHash>> = {
  0x0004: 'SHA-1',
  0x000b: 'SHA-256',
  0x000c: 'SHA-384',
  0x000d: 'SHA-512',
};
export const TPM_HASH_BYTES: Readonly<Record<TpmHash, number>> = {
  'SHA-1': 20,
  'SHA-256': 32,
  'SHA-384': 48,
  'SHA-512': 64,
};

/** Registers of one bank that a quote covers. */
export interface PcrSelection {
  readonly hash: TpmHash;
  /** Ascending. */
  readonly indexes: readonly number[];
}

/** TPMS_ATTEST of a quote. Bytes are views into `signedBytes`; nothing is verified yet. */
export interface TpmQuote {
  /** All of it: what the attestation key signs. */
  readonly signedBytes: Uint8Array;
  /** Name of the signing key, qualified by its parents: hash algorithm and digest. */
  readonly qualifiedSigner: Uint8Array;
  /** What the caller of the TPM gave it, which is the nonce: 0 to 64 bytes. */
  readonly extraData: Uint8Array;
  /** ms that the TPM was on. */
  readonly clock: bigint;
  readonly resetCount: number;
  readonly restartCount: number;
  /** Whether `clock` was never set back. */
  readonly safe: boolean;
  readonly firmwareVersion: bigint;
  /** Banks, in the order in which their values enter the digest. */
  readonly selections: readonly PcrSelection[];
  readonly pcrDigest: Uint8Array;
}

/** TPMT_SIGNATURE, or bare RSA bytes. `hash` is also the one that the quote's PCR digest is made with. */
export type TpmSignature =
  | { readonly scheme: 'rsassa' | 'rsapss'; readonly hash: Hash; readonly bytes: Uint8Array }
  /** r and s are big endian, without a fixed length. */
  | { readonly scheme: 'ecdsa'; readonly hash: Hash; readonly r: Uint8Array; readonly s: Uint8Array };

/** Values of registers by bank and index. */
export type PcrValues = ReadonlyMap<TpmHash, ReadonlyMap<number, Uint8Array>>;

/** A quote, its signature, and the registers it is said to be over: nothing verified yet. */
export interface SignedTpmQuote {
  readonly quote: TpmQuote;
  readonly signature: TpmSignature;
  readonly pcrs: PcrValues;
}

const TPM_GENERATED = 0xff544347;
const ATTEST_QUOTE = 0x8018;
/** A name is an algorithm (2 bytes) and the longest digest. */
const NAME_BYTES_MAX = 66;
const NONCE_BYTES_MAX = 64;
const BANKS_MAX = 8;
/** 32 registers; the PC client profile has 24. */
const SELECTION_BYTES_MAX = 4;
const DIGEST_BYTES_MAX = 64;
/** RSA-4096. */
const SIGNATURE_BYTES_MAX = 512;
const RSASSA = 0x0014;
const RSAPSS = 0x0016;
const ECDSA = 0x0018;

/**
 * Parses the TPMS_ATTEST of a quote (TPM 2.0 Library, part 2 §10.12.12), big endian.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`; reason `evidence/tpm-magic` for a structure that no TPM made, or that is no quote.
 */
export function parseTpmQuote(signedBytes: Uint8Array): TpmQuote {
  const reader = new ByteReader(signedBytes);
  const magic = reader.u32be('magic');
  if (magic !== TPM_GENERATED) refuse('evidence/tpm-magic', `magic is ${magic.toString(16)}, expected ff544347`);
  const type = reader.u16be('type');
  if (type !== ATTEST_QUOTE) refuse('evidence/tpm-magic', `attested structure is ${type.toString(16)}, expected 8018`);
  const quote = {
    signedBytes,
    qualifiedSigner: takeSized(reader, NAME_BYTES_MAX, 'qualifiedSigner'),
    extraData: takeSized(reader, NONCE_BYTES_MAX, 'extraData'),
    clock: u64be(reader, 'clock'),
    resetCount: reader.u32be('resetCount'),
    restartCount: reader.u32be('restartCount'),
    safe: parseYesNo(reader.u8('safe')),
    firmwareVersion: u64be(reader, 'firmwareVersion'),
    selections: parseSelections(reader),
    pcrDigest: takeSized(reader, DIGEST_BYTES_MAX, 'pcrDigest'),
  };
  reader.finish('TPM quote');
  return quote;
}

/**
 * Parses a TPMT_SIGNATURE (part 2 §11.3.4), or the bare bytes of an RSA signature, as Azure's tools give them: those are
 * PKCS #1 v1.5 with SHA-256. The lengths tell them apart: no TPMT_SIGNATURE has 256, 384 or 512 bytes.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parseTpmSignature(bytes: Uint8Array): TpmSignature {
  if ([256, 384, 512].includes(bytes.length)) return { scheme: 'rsassa', hash: 'SHA-256', bytes };
  const reader = new ByteReader(bytes);
  const algorithm = reader.u16be('signature algorithm');
  if (algorithm !== RSASSA && algorithm !== RSAPSS && algorithm !== ECDSA)
    refuse('parse/unsupported-algorithm', `signature algorithm is ${algorithm.toString(16)}, expected 14, 16 or 18`);
  const hash = parseHash(reader.u16be('signature hash'), 'signature hash');
  // Collisions of SHA-1 are practical.
  if (hash === 'SHA-1') refuse('parse/unsupported-algorithm', 'the signature is over SHA-1');
  if (algorithm === ECDSA) {
    const r = takeSized(reader, DIGEST_BYTES_MAX, 'r');
    const s = takeSized(reader, DIGEST_BYTES_MAX, 's');
    reader.finish('TPM signature');
    return { scheme: 'ecdsa', hash, r, s };
  }
  const signature = takeSized(reader, SIGNATURE_BYTES_MAX, 'RSA signature');
  reader.finish('TPM signature');
  return { scheme: algorithm === RSAPSS ? 'rsapss' : 'rsassa', hash, bytes: signature };
}

/** A TPM2B: length (16 bits, big endian) and bytes. */
export function takeSized(reader: ByteReader, bytesMax: number, field: string): Uint8Array {
  const length = reader.u16be(`${field} length`);
  if (length > bytesMax) refuse('parse/length', `${field} has ${length} bytes, at most ${bytesMax} are possible`);
  return reader.take(length, field);
}

export function parseHash(id: number, field: string): TpmHash {
  return TPM_HASHES[id] ?? refuse('parse/unsupported-algorithm', `${field} is ${id.toString(16)}, not a SHA function`);
}

function parseSelections(reader: ByteReader): PcrSelection[] {
  const count = reader.u32be('PCR selection count');
  if (count > BANKS_MAX) refuse('parse/length', `quote selects ${count} PCR banks, at most ${BANKS_MAX} are possible`);
  const selections: PcrSelection[] = [];
  for (let i = 0; i < count; i++) {
    const hash = parseHash(reader.u16be('PCR bank'), 'PCR bank');
    if (selections.some((other) => other.hash === hash)) refuse('parse/duplicate', `PCR bank ${hash} is there twice`);
    const size = reader.u8('PCR bitmap size');
    if (size > SELECTION_BYTES_MAX) refuse('parse/length', `PCR bitmap has ${size} bytes, at most 4 are possible`);
    selections.push({ hash, indexes: setBits(reader.take(size, 'PCR bitmap')) });
  }
  return selections;
}

/** Least significant bit first. */
function setBits(bitmap: Uint8Array): number[] {
  return [...bitmap].flatMap((byte, at) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => (byte & (1 << bit)) !== 0).map((bit) => 8 * at + bit),
  );
}

function parseYesNo(value: number): boolean {
  if (value > 1) refuse('parse/reserved', `safe is ${value}, expected 0 or 1`);
  return value === 1;
}

function u64be(reader: ByteReader, field: string): bigint {
  return (BigInt(reader.u32be(field)) << 32n) | BigInt(reader.u32be(field));
}
