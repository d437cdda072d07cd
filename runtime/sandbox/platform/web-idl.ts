import { domString } from './dom-string.ts';
import { bytesOf } from './utf8.ts';

/** Conversions of Web IDL §3.2 that several parts of the platform need. */

export const isObject = (value: unknown): value is object =>
  (typeof value === 'object' && value !== null) || typeof value === 'function';

/** A dictionary: `undefined` and `null` have no members. */
export function dictionaryOf(value: unknown, what = 'the options'): Record<string, unknown> {
  if (value === undefined || value === null) return {};
  if (!isObject(value)) throw new TypeError(`${what}: expected an object`);
  return value as Record<string, unknown>;
}

/** `[EnforceRange]`, for whole numbers up to 2^53. */
export function enforceRange(value: unknown, max: number, what: string): number {
  const number = Number(value);
  if (!Number.isFinite(number)) throw new TypeError(`${what} is not a number`);
  const whole = Math.trunc(number);
  if (whole < 0 || whole > max) throw new TypeError(`${what} is not between 0 and ${max}`);
  return whole + 0;
}

export function enumOf<T extends string>(value: unknown, allowed: readonly T[], what: string): T {
  const text = domString(value);
  const found = allowed.find((known) => known === text);
  if (found === undefined) throw new TypeError(`${what}: '${text}' is none of ${allowed.join(', ')}`);
  return found;
}

/** A copy of the bytes of a BufferSource. Shared memory is refused, as what it holds may change. */
export function copyBytes(value: unknown, what = 'the data'): Uint8Array<ArrayBuffer> {
  const buffer = ArrayBuffer.isView(value) ? value.buffer : value;
  if (!(buffer instanceof ArrayBuffer)) throw new TypeError(`${what}: expected an ArrayBuffer or a view of one`);
  return Uint8Array.from(bytesOf(value as ArrayBuffer | ArrayBufferView));
}

export function iterableOf(value: unknown, what: string): Iterable<unknown> {
  if (!isObject(value) || typeof (value as Partial<Iterable<unknown>>)[Symbol.iterator] !== 'function')
    throw new TypeError(`${what}: expected a sequence`);
  return value as Iterable<unknown>;
}
export const sequenceOf = (value: unknown, what: string): unknown[] => [...iterableOf(value, what)];

export function needArguments(given: number, needed: number, what: string): void {
  if (given < needed) throw new TypeError(`${what} needs ${needed} arguments, got ${given}`);
}
