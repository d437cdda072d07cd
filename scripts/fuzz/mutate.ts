import type { Random } from './random.ts';

type Mutation = (bytes: Uint8Array, random: Random, others: readonly Uint8Array[]) => Uint8Array;

/** Longest input that mutations grow to, in bytes: enough for every limit of a parser to be met. */
const GROWN_BYTES_MAX = 512 * 1024;
const LENGTHS = [0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff];
const NUMBERS = [
  '0',
  '-1',
  '1e999',
  '9007199254740993',
  '99999999999999999999',
  '0.5',
  'null',
  'true',
  '""',
  '{}',
  '[]',
];
const TOKENS = [
  '"',
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '\\',
  '\0',
  '<',
  '>',
  '&',
  '/>',
  '<!DOCTYPE x>',
  '<!--',
  ']]>',
  '&#0;',
  '=',
  '-',
];

const binary: readonly Mutation[] = [
  (bytes, random) => set(bytes, random.below(bytes.length), (byte) => byte ^ (1 << random.below(8))),
  (bytes, random) => set(bytes, random.below(bytes.length), () => random.pick([0, 1, 0x30, 0x7f, 0x80, 0xff])),
  (bytes, random) => set(bytes, random.below(bytes.length), () => random.below(256)),
  (bytes, random) => bytes.slice(0, random.below(bytes.length + 1)),
  (bytes, random) => cut(bytes, random.below(bytes.length), 1 + random.below(16)),
  (bytes, random) =>
    insert(
      bytes,
      random.below(bytes.length + 1),
      Uint8Array.from({ length: 1 + random.below(16) }, () => random.below(256)),
    ),
  (bytes, random) => insert(bytes, bytes.length, new Uint8Array(1 + random.below(64))),
  (bytes, random) => lengthField(bytes, random),
  (bytes, random) => repeat(bytes, random),
  (bytes, random, others) => splice(bytes, random, others),
];

const textual: readonly Mutation[] = [
  (bytes, random) => token(bytes, random, /-?\d+/g, () => random.pick(NUMBERS)),
  (bytes, random) =>
    token(bytes, random, /"[^"\\]{0,200}"/g, (found) =>
      random.pick(['""', 'null', '0', found.toUpperCase(), `${found.slice(0, -1)}x"`]),
    ),
  (bytes, random) => token(bytes, random, /[{}[\],:<>"=/]/g, () => random.pick(TOKENS)),
  (bytes, random) =>
    token(bytes, random, /<[^>]{1,200}>/g, (found) =>
      random.pick(['', found + found, found.toLowerCase(), `<!--${found}-->`]),
    ),
  (bytes, random) =>
    token(
      bytes,
      random,
      /[A-Za-z0-9+/_-]{8,}/g,
      (found) =>
        found.slice(0, random.below(found.length)) +
        random.pick(['', 'A', '=', '\n', '-']) +
        found.slice(random.below(found.length)),
    ),
  (bytes, random) =>
    insert(
      bytes,
      random.below(bytes.length + 1),
      new TextEncoder().encode(random.pick(TOKENS).repeat(random.pick([1, 2, 5000]))),
    ),
];

/** One to three changes of an input. `others` are inputs to splice pieces from. */
export function mutate(input: Uint8Array, random: Random, others: readonly Uint8Array[]): Uint8Array {
  const list = looksTextual(input) ? [...binary, ...textual, ...textual] : binary;
  let bytes = input;
  for (let count = random.pick([1, 1, 1, 2, 3]); count > 0; count--) {
    if (bytes.length === 0) return bytes;
    bytes = random.pick(list)(bytes, random, others).subarray(0, GROWN_BYTES_MAX);
  }
  return bytes;
}

function looksTextual(bytes: Uint8Array): boolean {
  return bytes
    .subarray(0, 64)
    .every((byte) => byte === 9 || byte === 10 || byte === 13 || (byte >= 0x20 && byte < 0x7f));
}

function set(bytes: Uint8Array, at: number, change: (byte: number) => number): Uint8Array {
  const changed = bytes.slice();
  changed[at] = change(changed[at] ?? 0);
  return changed;
}

function cut(bytes: Uint8Array, at: number, length: number): Uint8Array {
  return join(bytes.subarray(0, at), bytes.subarray(at + length));
}

function insert(bytes: Uint8Array, at: number, inserted: Uint8Array): Uint8Array {
  return join(bytes.subarray(0, at), inserted, bytes.subarray(at));
}

/** Writes a telling number over what could be a length of 1, 2 or 4 bytes, in either order. */
function lengthField(bytes: Uint8Array, random: Random): Uint8Array {
  const width = random.pick([1, 2, 4]);
  if (bytes.length < width) return bytes;
  const changed = bytes.slice();
  const at = random.below(bytes.length - width + 1);
  const value = random.pick(LENGTHS);
  const littleEndian = random.below(2) === 0;
  for (let i = 0; i < width; i++) changed[at + i] = (value >>> (8 * (littleEndian ? i : width - 1 - i))) & 0xff;
  return changed;
}

/** Doubles a piece, some times over. */
function repeat(bytes: Uint8Array, random: Random): Uint8Array {
  const at = random.below(bytes.length);
  const piece = bytes.subarray(at, at + 1 + random.below(256));
  return insert(bytes, at, join(...Array.from({ length: random.pick([1, 2, 300]) }, () => piece)));
}

function splice(bytes: Uint8Array, random: Random, others: readonly Uint8Array[]): Uint8Array {
  if (others.length === 0) return bytes;
  const other = random.pick(others);
  const from = random.below(other.length + 1);
  const at = random.below(bytes.length + 1);
  const length = random.below(Math.min(4096, other.length - from) + 1);
  return join(
    bytes.subarray(0, at),
    other.subarray(from, from + length),
    bytes.subarray(random.below(2) === 0 ? at : at + length),
  );
}

function token(bytes: Uint8Array, random: Random, pattern: RegExp, change: (found: string) => string): Uint8Array {
  const text = new TextDecoder('latin1').decode(bytes);
  const found = [...text.matchAll(pattern)];
  if (found.length === 0) return bytes;
  const { index, 0: match } = random.pick(found);
  const changed = text.slice(0, index) + change(match) + text.slice(index + match.length);
  return Uint8Array.from(changed, (character) => character.charCodeAt(0));
}

function join(...parts: readonly Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}
