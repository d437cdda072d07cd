import { NodeBuffer } from './native.ts';
import { CfnError, type ErrorCode } from './errors.ts';

/**
 * Bounds-checked reader over untrusted bytes. `take` returns views, not copies.
 *
 * @throws {CfnError} with the code given at construction when a read passes the end, or `finish` finds leftovers.
 */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #code: ErrorCode;
  #offset = 0;

  constructor(bytes: Uint8Array, code: ErrorCode = 'CFN_EVIDENCE_MALFORMED') {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#code = code;
  }

  get offset(): number {
    return this.#offset;
  }
  get remaining(): number {
    return this.#bytes.length - this.#offset;
  }

  #advance(length: number, field: string): number {
    if (!Number.isSafeInteger(length) || length < 0 || length > this.remaining) {
      throw new CfnError(this.#code, `${field} ends past the input: need ${length} bytes, have ${this.remaining}`);
    }
    const at = this.#offset;
    this.#offset += length;
    return at;
  }

  take(length: number, field: string): Uint8Array {
    const at = this.#advance(length, field);
    return this.#bytes.subarray(at, at + length);
  }
  u8(field: string): number {
    return this.#view.getUint8(this.#advance(1, field));
  }
  u16le(field: string): number {
    return this.#view.getUint16(this.#advance(2, field), true);
  }
  u32le(field: string): number {
    return this.#view.getUint32(this.#advance(4, field), true);
  }
  u64le(field: string): bigint {
    return this.#view.getBigUint64(this.#advance(8, field), true);
  }
  u16be(field: string): number {
    return this.#view.getUint16(this.#advance(2, field));
  }
  u32be(field: string): number {
    return this.#view.getUint32(this.#advance(4, field));
  }
  /** Refuses bytes left over. */
  finish(what: string): void {
    if (this.remaining > 0) throw new CfnError(this.#code, `${what} has ${this.remaining} bytes left over`);
  }
}

export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Compares without an early exit; the time depends on the lengths only. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0);
  return difference === 0;
}

export function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** Strict UTF-8: ill-formed input is refused. */
export function fromUtf8(bytes: Uint8Array, code: ErrorCode = 'CFN_INPUT_INVALID'): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CfnError(code, 'text is not UTF-8', { cause });
  }
}

export function toHex(bytes: Uint8Array): string {
  if (NodeBuffer !== undefined) return bufferOf(bytes, NodeBuffer).toString('hex');
  let out = '';
  for (const byte of bytes) out += byte.toString(16).padStart(2, '0');
  return out;
}

/** Lower-case hexadecimal only. */
export function fromHex(text: string, code: ErrorCode = 'CFN_INPUT_INVALID'): Uint8Array<ArrayBuffer> {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/.test(text)) throw new CfnError(code, 'expected lower-case hexadecimal');
  const out = new Uint8Array(text.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return out;
}

/** base64url without padding (RFC 4648 §5). */
export function toBase64url(bytes: Uint8Array): string {
  if (NodeBuffer !== undefined) return bufferOf(bytes, NodeBuffer).toString('base64url');
  let binary = '';
  for (let i = 0; i < bytes.length; i += 0x8000) binary += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

/** Strict and canonical: padding, other alphabets and non-zero trailing bits are refused. */
export function fromBase64url(text: string, code: ErrorCode = 'CFN_INPUT_INVALID'): Uint8Array<ArrayBuffer> {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1)
    throw new CfnError(code, 'expected base64url without padding');
  const out = NodeBuffer === undefined ? decodeBase64url(text) : new Uint8Array(Math.floor((text.length * 3) / 4));
  if (NodeBuffer !== undefined) NodeBuffer.from(out.buffer).write(text, 'base64url'); // not into Node's pool, which nobody overwrites
  if (toBase64url(out) !== text) throw new CfnError(code, 'base64url is not canonical');
  return out;
}

const bufferOf = (bytes: Uint8Array, of: typeof Buffer): Buffer =>
  of.from(bytes.buffer, bytes.byteOffset, bytes.length);

function decodeBase64url(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text.replaceAll('-', '+').replaceAll('_', '/'));
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}
