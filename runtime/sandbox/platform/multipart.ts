import { decodeUtf8, encodeUtf8 } from './utf8.ts';

export interface FormPart {
  readonly name: string;
  readonly filename: string | undefined;
  /** Media type of a file. */
  readonly type: string;
  readonly content: Uint8Array;
}

/** Parts of one form. */
const PARTS_MAX = 10_000;
/** Head of one part, in bytes. */
const HEAD_BYTES_MAX = 16 * 1024;

const malformed = (): TypeError => new TypeError('the body is not well-formed multipart/form-data');

/**
 * Parses multipart/form-data (RFC 7578 §4, as HTML writes it).
 *
 * @throws {TypeError} for anything else
 */
export function parseMultipart(bytes: Uint8Array, boundary: string): FormPart[] {
  const delimiter = encodeUtf8(`--${boundary}`);
  const parts: FormPart[] = [];
  let at = 0;
  // A preamble is nothing but line breaks.
  while (startsWith(bytes, CRLF, at)) at += 2;
  if (!startsWith(bytes, delimiter, at)) throw malformed();
  at += delimiter.length;
  const between = new Uint8Array([...CRLF, ...delimiter]);
  for (;;) {
    if (startsWith(bytes, DASHES, at)) {
      const rest = bytes.subarray(at + 2);
      if (rest.length > 0 && !startsWith(rest, CRLF, 0)) throw malformed();
      return parts;
    }
    if (!startsWith(bytes, CRLF, at)) throw malformed();
    at += 2;
    const headEnd = startsWith(bytes, CRLF, at) ? at - 2 : indexOf(bytes, DOUBLE_CRLF, at);
    if (headEnd < 0 || headEnd - at > HEAD_BYTES_MAX || parts.length >= PARTS_MAX) throw malformed();
    const start = headEnd + DOUBLE_CRLF.length;
    const end = indexOf(bytes, between, start);
    if (end < 0) throw malformed();
    parts.push({ ...parseHead(bytes.subarray(at, Math.max(at, headEnd))), content: bytes.subarray(start, end) });
    at = end + between.length;
  }
}
const [CRLF, DASHES, DOUBLE_CRLF] = [Uint8Array.of(13, 10), Uint8Array.of(45, 45), Uint8Array.of(13, 10, 13, 10)];

function parseHead(bytes: Uint8Array): Omit<FormPart, 'content'> {
  let name: string | undefined;
  let filename: string | undefined;
  let type = 'text/plain';
  for (const line of decodeUtf8(bytes).split('\r\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0) throw malformed();
    const value = line.slice(colon + 1).trim();
    switch (line.slice(0, colon).toLowerCase()) {
      case 'content-disposition': {
        const match = /^form-data\s*;\s*name="([^"]*)"(?:\s*;\s*filename="([^"]*)")?\s*;?$/i.exec(value);
        if (match === null) throw malformed();
        name = unescape(match[1] ?? '');
        filename = match[2] === undefined ? undefined : unescape(match[2]);
        break;
      }
      case 'content-type':
        type = value;
        break;
      default:
    }
  }
  if (name === undefined) throw malformed();
  return { name, filename, type };
}
const unescape = (text: string): string => text.replace(/%0A/gi, '\n').replace(/%0D/gi, '\r').replace(/%22/g, '"');

function startsWith(bytes: Uint8Array, wanted: Uint8Array, at: number): boolean {
  if (at + wanted.length > bytes.length) return false;
  for (let i = 0; i < wanted.length; i++) if (bytes[at + i] !== wanted[i]) return false;
  return true;
}

function indexOf(bytes: Uint8Array, wanted: Uint8Array, from: number): number {
  const [first = 0] = wanted;
  for (let at = bytes.indexOf(first, from); at >= 0; at = bytes.indexOf(first, at + 1))
    if (startsWith(bytes, wanted, at)) return at;
  return -1;
}
