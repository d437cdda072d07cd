import { CfnError, type ErrorCode } from './errors.ts';

/** Name and value, as in Fetch: each character is one byte (ISO 8859-1). */
export type Field = [name: string, value: string];

const TOKEN = characterTable("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");
const FIELD_NAME = characterTable("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz");

function characterTable(characters: string): Uint8Array {
  const table = new Uint8Array(256);
  for (let i = 0; i < characters.length; i++) table[characters.charCodeAt(i)] = 1;
  return table;
}

function allIn(bytes: Uint8Array, table: Uint8Array): boolean {
  for (const byte of bytes) if (table[byte] !== 1) return false;
  return true;
}

/** Upper-case names are malformed in binary HTTP (RFC 9292 §3.6); pseudo-fields (`:`) have no place in it. */
export function checkFieldName(name: Uint8Array, code: ErrorCode): void {
  if (name.length === 0 || !allIn(name, FIELD_NAME))
    throw new CfnError(code, 'a field name is empty or has a character outside a-z, 0-9 and token marks');
}

/** RFC 9110 §5.5: no control characters but tab, so that a field can never be split into two; no white space around. */
export function checkFieldValue(value: Uint8Array, code: ErrorCode): void {
  for (const byte of value) {
    if ((byte < 0x20 && byte !== 0x09) || byte === 0x7f)
      throw new CfnError(code, 'a field value has a control character');
  }
  if (isBlank(value[0]) || isBlank(value[value.length - 1]))
    throw new CfnError(code, 'a field value begins or ends with white space');
}
const isBlank = (byte: number | undefined): boolean => byte === 0x20 || byte === 0x09;

export function checkMethod(method: Uint8Array, code: ErrorCode): void {
  if (method.length === 0 || !allIn(method, TOKEN)) throw new CfnError(code, 'the method is empty or not a token');
}

/** Scheme, authority and path: visible ASCII. */
export function checkVisible(bytes: Uint8Array, what: string, code: ErrorCode): void {
  for (const byte of bytes) {
    if (byte <= 0x20 || byte >= 0x7f) throw new CfnError(code, `${what} has a character outside visible ASCII`);
  }
}

/** Own loop instead of a TextDecoder, whose `latin1` is windows-1252, and which an isolate may lack. */
export function latin1(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 4096) text += String.fromCharCode(...bytes.subarray(i, i + 4096));
  return text;
}

/** @throws {CfnError} `code` when a character is not one byte */
export function fromLatin1(text: string, code: ErrorCode): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit > 0xff) throw new CfnError(code, 'a field or control value has a character over U+00FF');
    out[i] = unit;
  }
  return out;
}
