import { CfnError, type ErrorCode } from './errors.ts';

/** Bytes that the shortest QUIC varint (RFC 9000 §16) of `value` takes: 1, 2, 4 or 8. */
export function varintBytes(value: number): 1 | 2 | 4 | 8 {
  if (!Number.isSafeInteger(value) || value < 0)
    throw new CfnError('CFN_INTERNAL', 'a varint holds an integer from 0 to 2^53 - 1');
  return value < 0x40 ? 1 : value < 0x4000 ? 2 : value < 0x4000_0000 ? 4 : 8;
}

/** Writes the shortest varint of `value` at `at` and returns the offset after it. */
export function writeVarint(out: Uint8Array, at: number, value: number): number {
  const length = varintBytes(value);
  let rest = value;
  for (let i = length - 1; i >= 0; i--) {
    out[at + i] = rest % 256; // not `& 0xff`: values pass 2^32
    rest = Math.floor(rest / 256);
  }
  out[at] = (out[at] ?? 0) | (length === 1 ? 0 : length === 2 ? 0x40 : length === 4 ? 0x80 : 0xc0);
  return at + length;
}

export function encodeVarint(value: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(varintBytes(value));
  writeVarint(out, 0, value);
  return out;
}

/** How long the varint is that starts with this byte. */
export const varintLength = (first: number): number => 1 << (first >> 6);

/**
 * Reads the varint at `at`; the caller has made sure that its {@link varintLength} bytes are there. Longer forms than needed are
 * legal in QUIC varints and taken.
 *
 * @throws {CfnError} `code` over 2^53 - 1
 */
export function readVarint(bytes: Uint8Array, at: number, code: ErrorCode): number {
  const first = bytes[at] ?? 0;
  const length = varintLength(first);
  let value = first & 0x3f;
  for (let i = 1; i < length; i++) value = value * 256 + (bytes[at + i] ?? 0);
  if (!Number.isSafeInteger(value)) throw new CfnError(code, 'a length is over 2^53 - 1');
  return value;
}
