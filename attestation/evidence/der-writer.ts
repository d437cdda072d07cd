import { concatBytes, utf8 } from '../../proto/index.ts';
import { contextTag, DER } from './der.ts';

type Bytes = Uint8Array<ArrayBuffer>;

/** Writes one DER element. */
export function der(tag: number, ...contents: readonly Uint8Array[]): Bytes {
  const content = concatBytes(...contents);
  return concatBytes(Uint8Array.of(tag), derLength(content.length), content);
}

export const sequence = (...items: readonly Uint8Array[]): Bytes => der(DER.sequence, ...items);
export const octetString = (bytes: Uint8Array): Bytes => der(DER.octetString, bytes);
export const bitString = (bytes: Uint8Array, unusedBits = 0): Bytes =>
  der(DER.bitString, Uint8Array.of(unusedBits), bytes);
export const boolean = (value: boolean): Bytes => der(DER.boolean, Uint8Array.of(value ? 0xff : 0));
export const context = (n: number, ...items: readonly Uint8Array[]): Bytes => der(contextTag(n), ...items);
export const utf8String = (text: string): Bytes => der(DER.utf8String, utf8(text));

/** A non-negative INTEGER from its magnitude. */
export function integer(magnitude: Uint8Array | number): Bytes {
  let bytes = typeof magnitude === 'number' ? bigEndian(magnitude) : magnitude;
  while (bytes.length > 1 && bytes[0] === 0) bytes = bytes.subarray(1);
  return der(DER.integer, (bytes[0] ?? 0) >= 0x80 ? concatBytes(Uint8Array.of(0), bytes) : bytes);
}

export function oid(dotted: string): Bytes {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return der(DER.oid, Uint8Array.from([first * 40 + second, ...rest].flatMap(base128)));
}

/** Two digits for years up to 2049, four after that (RFC 5280 §4.1.2.5). */
export function time(iso: string): Bytes {
  const text = `${iso.replaceAll(/[-:T]|\.\d+/g, '')}`;
  return text < '2050' ? der(DER.utcTime, utf8(text.slice(2))) : der(DER.generalizedTime, utf8(text));
}

/** r ‖ s as WebCrypto gives it, as ECDSA-Sig-Value. */
export function ecdsaSignature(raw: Uint8Array): Bytes {
  return sequence(integer(raw.subarray(0, raw.length / 2)), integer(raw.subarray(raw.length / 2)));
}

function derLength(length: number): Bytes {
  if (length < 0x80) return Uint8Array.of(length);
  const bytes = bigEndian(length);
  return concatBytes(Uint8Array.of(0x80 | bytes.length), bytes);
}

function bigEndian(value: number): Bytes {
  const bytes: number[] = [];
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return Uint8Array.from(bytes.length === 0 ? [0] : bytes);
}

function base128(arc: number): number[] {
  const digits = [arc % 128];
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128)) digits.unshift((rest % 128) | 0x80);
  return digits;
}
