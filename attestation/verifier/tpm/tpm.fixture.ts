import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { CfnError, concatBytes, utf8 } from '../../../proto/index.ts';
import { parsePublicKey, type Curve, type Hash, type PublicKey } from '../../evidence/algorithms.ts';
import type { Reason } from '../../evidence/reasons.ts';
import { TPM_HASH_BYTES, TPM_HASHES, type PcrValues, type TpmHash } from '../../evidence/tpm.ts';
import { Findings, reasonOf } from '../findings.ts';

type Bytes = Uint8Array<ArrayBuffer>;

const folder = new URL('../../vectors/', import.meta.url);

export function vector(path: string): Bytes {
  const bytes = readFileSync(new URL(path, folder));
  return new Uint8Array(path.endsWith('.gz') ? gunzipSync(bytes) : bytes);
}

export function vectorText(path: string): string {
  return readFileSync(new URL(path, folder), 'utf8');
}

/** The blocks of a txtar file of PEM, by name; base64 decoded without a look at what is in them. */
export function txtar(path: string): Map<string, Bytes> {
  const blocks = vectorText(path).matchAll(/^-- (\S+) --\n[^-]*-----BEGIN CERTIFICATE-----([^-]+)-----END/gm);
  return new Map([...blocks].map(([, name = '', body = '']) => [name, new Uint8Array(Buffer.from(body, 'base64'))]));
}

/** Reasons for which something is refused, also when it cannot be parsed; none when it is accepted. Any other error is a bug. */
export async function reasonsOf(run: (findings: Findings) => Promise<unknown>): Promise<Reason[]> {
  const findings = new Findings();
  try {
    await run(findings);
  } catch (error) {
    if (!(error instanceof CfnError)) throw error;
    return [reasonOf(error)];
  }
  return findings.failures.map(({ reason }) => reason);
}

export const u16 = (value: number): Bytes => Uint8Array.of(value >> 8, value & 0xff);
export const u32 = (value: number): Bytes => concatBytes(u16(value >>> 16), u16(value & 0xffff));
export const sized = (bytes: Uint8Array): Bytes => concatBytes(u16(bytes.length), bytes);
const u32le = (value: number): Bytes => u32(value).toReversed();
const u16le = (value: number): Bytes => u16(value).toReversed();

export function algorithmId(hash: TpmHash): number {
  return Number(Object.entries(TPM_HASHES).find(([, name]) => name === hash)?.[0]);
}

export async function digestOf(hash: TpmHash, ...parts: readonly Uint8Array[]): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest(hash, concatBytes(...parts)));
}

export interface AttestRequest {
  readonly nonce: Uint8Array;
  readonly banks: readonly { readonly hash: TpmHash; readonly indexes: readonly number[] }[];
  readonly digest: Uint8Array;
  readonly magic?: number;
  readonly type?: number;
}

/** TPMS_ATTEST. */
export function attest({ nonce, banks, digest, magic = 0xff544347, type = 0x8018 }: AttestRequest): Bytes {
  return concatBytes(
    u32(magic),
    u16(type),
    sized(new Uint8Array(34)),
    sized(nonce),
    new Uint8Array(8),
    u32(1),
    u32(2),
    Uint8Array.of(1),
    new Uint8Array(8),
    u32(banks.length),
    ...banks.map(({ hash, indexes }) => concatBytes(u16(algorithmId(hash)), Uint8Array.of(3), bitmap(indexes))),
    sized(digest),
  );
}

function bitmap(indexes: readonly number[]): Bytes {
  const bytes = new Uint8Array(3);
  for (const index of indexes) bytes[index >> 3] = (bytes[index >> 3] ?? 0) | (1 << (index & 7));
  return bytes;
}

export type AttestationKeyKind =
  | { readonly scheme: 'rsassa'; readonly hash: Hash }
  | { readonly scheme: 'rsapss'; readonly hash: Hash; readonly saltBytes: number }
  | { readonly scheme: 'ecdsa'; readonly hash: Hash; readonly curve: Curve };

/** A throwaway attestation key: signs as a TPM does. */
export async function attestationKey(
  kind: AttestationKeyKind,
): Promise<{ publicKey: PublicKey; sign: (message: Bytes) => Promise<Bytes> }> {
  const algorithm =
    kind.scheme === 'ecdsa'
      ? { name: 'ECDSA', namedCurve: kind.curve }
      : {
          name: kind.scheme === 'rsapss' ? 'RSA-PSS' : 'RSASSA-PKCS1-v1_5',
          hash: kind.hash,
          modulusLength: 2048,
          publicExponent: Uint8Array.of(1, 0, 1),
        };
  const keys = (await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as CryptoKeyPair;
  const publicKey = parsePublicKey(new Uint8Array(await crypto.subtle.exportKey('spki', keys.publicKey)));
  const parameters = {
    name: algorithm.name,
    hash: kind.hash,
    saltLength: kind.scheme === 'rsapss' ? kind.saltBytes : 0,
  };
  const sign = async (message: Bytes): Promise<Bytes> => {
    const signature = new Uint8Array(await crypto.subtle.sign(parameters, keys.privateKey, message));
    const head = concatBytes(
      u16({ rsassa: 0x14, rsapss: 0x16, ecdsa: 0x18 }[kind.scheme]),
      u16(algorithmId(kind.hash)),
    );
    if (kind.scheme !== 'ecdsa') return concatBytes(head, sized(signature));
    const half = signature.length / 2;
    // TPMs leave out leading zeros.
    const [r, s] = [signature.subarray(0, half), signature.subarray(half)].map((part) =>
      part.subarray(part.findIndex((byte) => byte !== 0)),
    ) as [Bytes, Bytes];
    return concatBytes(head, sized(r), sized(s));
  };
  return { publicKey, sign };
}

/** Registers whose values are their index, repeated. */
export function pcrValues(...banks: readonly TpmHash[]): PcrValues {
  const indexes = Array.from({ length: 24 }, (_, index) => index);
  return new Map(
    banks.map((hash) => [
      hash,
      new Map(indexes.map((index) => [index, new Uint8Array(TPM_HASH_BYTES[hash]).fill(index)])),
    ]),
  );
}

export interface EventRequest {
  readonly register: number;
  readonly type: number;
  readonly data: Uint8Array;
  /** What is hashed, when it is not the data. */
  readonly measured?: Uint8Array;
}

/** A crypto-agile log with one bank. */
export async function eventLog(hash: TpmHash, requests: readonly EventRequest[]): Promise<Bytes> {
  const specId = concatBytes(
    utf8('Spec ID Event03\0'),
    new Uint8Array(8),
    u32le(1),
    u16le(algorithmId(hash)),
    u16le(TPM_HASH_BYTES[hash]),
    Uint8Array.of(0),
  );
  const events = requests.map(async ({ register, type, data, measured = data }) =>
    concatBytes(
      u32le(register),
      u32le(type),
      u32le(1),
      u16le(algorithmId(hash)),
      await digestOf(hash, measured),
      u32le(data.length),
      data,
    ),
  );
  return concatBytes(
    u32le(0),
    u32le(3),
    new Uint8Array(20),
    u32le(specId.length),
    specId,
    ...(await Promise.all(events)),
  );
}

/** UEFI_VARIABLE_DATA of a global variable. */
export function uefiVariable(name: string, data: Uint8Array): Bytes {
  const guid = Uint8Array.from(Buffer.from('61dfe48bca93d211aa0d00e098032b8c', 'hex'));
  const characters = Array.from(name, (character) => u16le(character.charCodeAt(0)));
  return concatBytes(guid, u32le(name.length), u32le(0), u32le(data.length), u32le(0), ...characters, data);
}
