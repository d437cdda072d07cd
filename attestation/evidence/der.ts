import { refuse } from './reasons.ts';

/** Tags of the universal types that certificates use, and the context tags, constructed. */
export const DER = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Context-specific, constructed: `[n]`. */
export const contextTag = (n: number): number => 0xa0 | n;

export interface DerElement {
  readonly tag: number;
  readonly content: Uint8Array;
  /** Tag, length and content. */
  readonly bytes: Uint8Array;
}

/**
 * Strict reader of DER (X.690 §10): definite and shortest lengths, low tag numbers only. Whoever made the evidence
 * controls every byte of it. Results are views.
 *
 * @throws {Refusal} `parse/der` for anything else.
 */
export class DerReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get done(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** Whether the next element has this tag; no element has at the end. */
  isNext(tag: number): boolean {
    return this.#bytes[this.#at] === tag;
  }

  any(field: string): DerElement {
    const start = this.#at;
    const tag = this.#octet(field);
    if ((tag & 0x1f) === 0x1f) malformed(`${field} has a long-form tag`);
    const length = this.#length(field);
    const from = this.#at;
    const have = this.#bytes.length - from;
    if (length > have) malformed(`${field} ends past the input: need ${length} bytes, have ${have}`);
    this.#at = from + length;
    return { tag, content: this.#bytes.subarray(from, this.#at), bytes: this.#bytes.subarray(start, this.#at) };
  }

  element(tag: number, field: string): DerElement {
    const element = this.any(field);
    if (element.tag !== tag) malformed(`${field} has tag ${element.tag}, expected ${tag}`);
    return element;
  }

  /** The next element when it has this tag. */
  optional(tag: number, field: string): DerElement | undefined {
    return this.isNext(tag) ? this.any(field) : undefined;
  }

  take(tag: number, field: string): Uint8Array {
    return this.element(tag, field).content;
  }

  sequence(field: string): DerReader {
    return new DerReader(this.take(DER.sequence, field));
  }

  oid(field: string): string {
    return decodeOid(this.take(DER.oid, field), field);
  }

  /** A non-negative INTEGER below 2^31. */
  integer(field: string): number {
    const unsigned = unsignedInteger(this.take(DER.integer, field), field);
    if (unsigned.length > 4 || (unsigned.length === 4 && (unsigned[0] ?? 0) >= 0x80))
      malformed(`${field} is too large`);
    return unsigned.reduce((value, byte) => value * 256 + byte, 0);
  }

  /** A BOOLEAN that is false when absent; DER leaves the default out, but vendors write it. */
  flag(field: string): boolean {
    const content = this.optional(DER.boolean, field)?.content;
    if (content === undefined) return false;
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) malformed(`${field} is not a boolean`);
    return content[0] === 0xff;
  }

  finish(what: string): void {
    if (!this.done) malformed(`${what} has ${this.#bytes.length - this.#at} bytes left over`);
  }

  #octet(field: string): number {
    return this.#bytes[this.#at++] ?? malformed(`${field} is cut short`);
  }

  #length(field: string): number {
    const first = this.#octet(field);
    if (first < 0x80) return first;
    const count = first & 0x7f;
    if (count === 0 || count > 3) malformed(`${field} has an indefinite or huge length`);
    let length = 0;
    for (let i = 0; i < count; i++) length = length * 256 + this.#octet(field);
    if (length < 0x80 || length < 256 ** (count - 1)) malformed(`${field} length is not in shortest form`);
    return length;
  }
}

/** Reads the one element that fills `bytes`. */
export function soleSequence(bytes: Uint8Array, field: string): DerReader {
  const reader = new DerReader(bytes);
  const sequence = reader.sequence(field);
  reader.finish(field);
  return sequence;
}

/** Magnitude of a non-negative INTEGER, without its sign byte; shortest form is demanded. */
export function unsignedInteger(content: Uint8Array, field: string): Uint8Array {
  const [first, second] = content;
  if (first === undefined || first >= 0x80) malformed(`${field} is empty or negative`);
  if (first !== 0 || content.length === 1) return content;
  if ((second ?? 0) < 0x80) malformed(`${field} is not in shortest form`);
  return content.subarray(1);
}

/** Bits of a BIT STRING that must end on a byte. */
export function wholeBits(content: Uint8Array, field: string): Uint8Array {
  if (content[0] !== 0) malformed(`${field} does not end on a byte`);
  return content.subarray(1);
}

/** ECDSA-Sig-Value (RFC 3279 §2.2.3) as r ‖ s, `size` bytes each, which is what WebCrypto takes. */
export function ecdsaSignatureFromDer(bytes: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const sequence = soleSequence(bytes, 'ECDSA signature');
  const out = new Uint8Array(2 * size);
  for (const [index, field] of ['r', 's'].entries()) {
    const value = unsignedInteger(sequence.take(DER.integer, field), field);
    if (value.length > size) malformed(`ECDSA ${field} has ${value.length} bytes, at most ${size} are possible`);
    out.set(value, (index + 1) * size - value.length);
  }
  sequence.finish('ECDSA signature');
  return out;
}

function decodeOid(content: Uint8Array, field: string): string {
  let text = '';
  let value = 0;
  let open = false;
  for (const byte of content) {
    if (!open && byte === 0x80) malformed(`${field} is not in shortest form`);
    value = value * 128 + (byte & 0x7f);
    if (value > 0xffff_ffff) malformed(`${field} has a huge arc`);
    open = byte >= 0x80;
    if (open) continue;
    if (text === '') {
      const root = Math.min(2, Math.floor(value / 40));
      text = `${root}.${value - root * 40}`;
    } else {
      text += `.${value}`;
    }
    value = 0;
  }
  if (open || text === '') malformed(`${field} is cut short`);
  return text;
}

function malformed(message: string): never {
  refuse('parse/der', message);
}
