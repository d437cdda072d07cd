import { domString } from './dom-string.ts';
import { legacyDecoder, type LegacyDecoder } from './legacy-encodings.ts';
import { decodeWindows1252, isWindows1252 } from './windows-1252.ts';
const UTF8_LABELS = new Set([
  'unicode-1-1-utf-8',
  'unicode11utf8',
  'unicode20utf8',
  'utf-8',
  'utf8',
  'x-unicode20utf8',
]);

/** UTF-8 bytes of a string; a lone surrogate becomes U+FFFD. */
export function encodeUtf8(text: string): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(utf8Length(text));
  encodeUtf8Into(text, out);
  return out;
}

function utf8Length(text: string): number {
  let length = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) length += 1;
    else if (isPair(text, i)) {
      length += 2; // 4 bytes for 2 units
      i++;
    } else length += 2;
  }
  return length;
}

const isPair = (text: string, i: number): boolean =>
  (text.charCodeAt(i) & 0xfc00) === 0xd800 && (text.charCodeAt(i + 1) & 0xfc00) === 0xdc00;

/** Writes whole characters while they fit. */
export function encodeUtf8Into(text: string, out: Uint8Array): { read: number; written: number } {
  let at = 0;
  let i = 0;
  for (; i < text.length; i++) {
    let point = text.charCodeAt(i);
    if (point < 0x80) {
      if (at >= out.length) break;
      out[at++] = point;
      continue;
    }
    const pair = isPair(text, i);
    if (pair) point = 0x1_0000 + ((point & 0x3ff) << 10) + (text.charCodeAt(i + 1) & 0x3ff);
    else if ((point & 0xf800) === 0xd800) point = 0xfffd;
    const size = point < 0x800 ? 2 : point < 0x1_0000 ? 3 : 4;
    if (at + size > out.length) break;
    if (size === 2) out[at++] = 0xc0 | (point >> 6);
    else {
      if (size === 3) out[at++] = 0xe0 | (point >> 12);
      else {
        out[at++] = 0xf0 | (point >> 18);
        out[at++] = 0x80 | ((point >> 12) & 0x3f);
      }
      out[at++] = 0x80 | ((point >> 6) & 0x3f);
    }
    out[at++] = 0x80 | (point & 0x3f);
    if (pair) i++;
  }
  return { read: i, written: at };
}

export class TextEncoder {
  get encoding(): string {
    return 'utf-8';
  }
  encode(text: unknown = ''): Uint8Array<ArrayBuffer> {
    return encodeUtf8(domString(text));
  }
  encodeInto(text: unknown, out: Uint8Array): { read: number; written: number } {
    if (!(out instanceof Uint8Array)) throw new TypeError('encodeInto needs a Uint8Array');
    return encodeUtf8Into(domString(text), out);
  }
}

/** UTF-8 (Encoding Standard §8.1.1; ill-formed parts become U+FFFD, or an error when `fatal`); others are loaded when asked for. */
export class TextDecoder {
  readonly #windows1252: boolean;
  readonly #legacy: LegacyDecoder | undefined;
  readonly #fatal: boolean;
  readonly #ignoreBom: boolean;
  #needed = 0;
  #seen = 0;
  #point = 0;
  #lower = 0x80;
  #upper = 0xbf;
  #started = false;
  #continues = false;

  constructor(label: unknown = 'utf-8', options: { fatal?: boolean; ignoreBOM?: boolean } = {}) {
    const name = domString(label)
      .replace(/^[\t\n\f\r ]+|[\t\n\f\r ]+$/g, '')
      .toLowerCase();
    if (typeof options !== 'object' && options !== undefined) throw new TypeError('the options are not an object');
    const isUtf8 = UTF8_LABELS.has(name);
    this.#windows1252 = !isUtf8 && isWindows1252(name);
    this.#fatal = Boolean(options?.fatal);
    this.#ignoreBom = Boolean(options?.ignoreBOM);
    if (!isUtf8 && !this.#windows1252) this.#legacy = legacyDecoder(name, this.#fatal, this.#ignoreBom);
  }
  get encoding(): string {
    return this.#legacy?.encoding ?? (this.#windows1252 ? 'windows-1252' : 'utf-8');
  }
  get fatal(): boolean {
    return this.#fatal;
  }
  get ignoreBOM(): boolean {
    return this.#ignoreBom;
  }

  decode(input?: ArrayBuffer | SharedArrayBuffer | ArrayBufferView, options: { stream?: boolean } = {}): string {
    const bytes = input === undefined ? new Uint8Array(0) : bytesOf(input);
    const stream = Boolean(options?.stream);
    if (this.#windows1252) return decodeWindows1252(bytes);
    if (this.#legacy !== undefined) return this.#legacy.decode(bytes, { stream });
    if (!this.#continues) {
      this.#reset();
      this.#started = false;
    }
    this.#continues = stream;
    let text = this.#run(bytes);
    if (!stream && this.#needed > 0) text += this.#illFormed();
    if (!this.#started && text.length > 0) {
      this.#started = true;
      if (!this.#ignoreBom && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    return text;
  }

  #reset(): void {
    this.#needed = this.#seen = this.#point = 0;
    this.#lower = 0x80;
    this.#upper = 0xbf;
  }
  #illFormed(): string {
    this.#reset();
    if (this.#fatal) throw new TypeError('the encoded data is not valid UTF-8');
    return '\ufffd';
  }

  #run(bytes: Uint8Array): string {
    const units = new Uint16Array(Math.min(bytes.length + 2, 8192));
    let text = '';
    let count = 0;
    for (let i = 0; i < bytes.length; i++) {
      if (count >= units.length - 2) {
        text += fromUnits(units, count);
        count = 0;
      }
      const byte = bytes[i] ?? 0;
      if (this.#needed === 0) {
        if (byte < 0x80) units[count++] = byte;
        else if (byte >= 0xc2 && byte <= 0xdf) this.#expect(1, byte & 0x1f);
        else if (byte >= 0xe0 && byte <= 0xef) {
          if (byte === 0xe0) this.#lower = 0xa0;
          if (byte === 0xed) this.#upper = 0x9f; // surrogates
          this.#expect(2, byte & 0x0f);
        } else if (byte >= 0xf0 && byte <= 0xf4) {
          if (byte === 0xf0) this.#lower = 0x90;
          if (byte === 0xf4) this.#upper = 0x8f; // past U+10FFFF
          this.#expect(3, byte & 0x07);
        } else units[count++] = this.#illFormed().charCodeAt(0);
        continue;
      }
      if (byte < this.#lower || byte > this.#upper) {
        units[count++] = this.#illFormed().charCodeAt(0);
        i--; // the byte may begin the next character
        continue;
      }
      this.#lower = 0x80;
      this.#upper = 0xbf;
      this.#point = (this.#point << 6) | (byte & 0x3f);
      if (++this.#seen < this.#needed) continue;
      const point = this.#point;
      this.#reset();
      if (point < 0x1_0000) units[count++] = point;
      else {
        units[count++] = 0xd800 + ((point - 0x1_0000) >> 10);
        units[count++] = 0xdc00 + ((point - 0x1_0000) & 0x3ff);
      }
    }
    return text + fromUnits(units, count);
  }

  #expect(needed: number, point: number): void {
    this.#needed = needed;
    this.#seen = 0;
    this.#point = point;
  }
}

const { fromCharCode } = String;
const fromUnits = (units: Uint16Array, count: number): string =>
  Reflect.apply(fromCharCode, undefined, units.subarray(0, count));

/** A view of the bytes of a buffer or view. */
export function bytesOf(source: ArrayBuffer | SharedArrayBuffer | ArrayBufferView): Uint8Array {
  const buffer = ArrayBuffer.isView(source) ? source.buffer : source;
  if (buffer instanceof ArrayBuffer && buffer.detached) return new Uint8Array(0);
  if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
  if (
    source instanceof ArrayBuffer ||
    (typeof SharedArrayBuffer !== 'undefined' && source instanceof SharedArrayBuffer)
  )
    return new Uint8Array(source);
  throw new TypeError('expected an ArrayBuffer or a view of one');
}

const decoder = new TextDecoder();
/** UTF-8 as bodies read it: a byte order mark is dropped, ill-formed parts become U+FFFD. */
export const decodeUtf8 = (bytes: Uint8Array): string => decoder.decode(bytes);
