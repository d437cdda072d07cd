import { Blob, bytesOfBlob, File } from './blob.ts';
import { domString } from './dom-string.ts';
import { host } from './host.ts';
import { extractMimeType } from './mime-type.ts';
import { parseMultipart } from './multipart.ts';
import { needCallback, pairIterators } from './pair-iterator.ts';
import { URLSearchParams } from './url.ts';
import { encodeUtf8, TextDecoder } from './utf8.ts';
import { needArguments } from './web-idl.ts';
import { concatBytes } from '../../../proto/bytes.ts';

export type FormEntry = readonly [string, string | File];

let entriesOf!: (data: FormData) => FormEntry[];
let isFormData!: (value: unknown) => value is FormData;
export { isFormData };
const iterate = pairIterators<FormData>('FormData', (data) => entriesOf(data));

/** XMLHttpRequest Standard §5, without forms. */
export class FormData {
  #entries: FormEntry[] = [];

  static {
    entriesOf = (data) => data.#entries;
    isFormData = (value): value is FormData => typeof value === 'object' && value !== null && #entries in value;
  }
  constructor(...given: readonly unknown[]) {
    const [form] = given; // Web IDL counts no parameter
    if (form !== undefined) throw new TypeError('there are no forms here');
  }
  append(name: unknown, value: unknown): void {
    needArguments(arguments.length, 2, 'append');
    // oxlint-disable-next-line prefer-rest-params -- Web IDL counts two parameters
    this.#entries.push(entryOf(name, value, [...arguments].slice(2)));
  }
  delete(name: unknown): void {
    needArguments(arguments.length, 1, 'delete');
    const wanted = usvString(name);
    this.#entries = this.#entries.filter(([known]) => known !== wanted);
  }
  get(name: unknown): string | File | null {
    needArguments(arguments.length, 1, 'get');
    const wanted = usvString(name);
    return this.#entries.find(([known]) => known === wanted)?.[1] ?? null;
  }
  getAll(name: unknown): (string | File)[] {
    needArguments(arguments.length, 1, 'getAll');
    const wanted = usvString(name);
    return this.#entries.filter(([known]) => known === wanted).map(([, value]) => value);
  }
  has(name: unknown): boolean {
    needArguments(arguments.length, 1, 'has');
    const wanted = usvString(name);
    return this.#entries.some(([known]) => known === wanted);
  }
  set(name: unknown, value: unknown): void {
    needArguments(arguments.length, 2, 'set');
    // oxlint-disable-next-line prefer-rest-params -- Web IDL counts two parameters
    const entry = entryOf(name, value, [...arguments].slice(2));
    const at = this.#entries.findIndex(([known]) => known === entry[0]);
    if (at < 0) this.#entries.push(entry);
    else
      this.#entries = this.#entries
        .filter(([known], i) => known !== entry[0] || i === at)
        .map((known, i) => (i === at ? entry : known));
  }
  forEach(callback: (value: string | File, name: string, data: FormData) => void): void {
    needCallback(callback);
    // oxlint-disable-next-line prefer-rest-params -- Web IDL counts one parameter
    const thisArg: unknown = arguments[1];
    for (let i = 0; i < this.#entries.length; i++) {
      const [name, value] = this.#entries[i] as FormEntry;
      callback.call(thisArg, value, name, this);
    }
  }
  entries(): IterableIterator<FormEntry> {
    void this.#entries;
    return iterate(this, 'key+value') as IterableIterator<FormEntry>;
  }
  keys(): IterableIterator<string> {
    void this.#entries;
    return iterate(this, 'key') as IterableIterator<string>;
  }
  values(): IterableIterator<string | File> {
    void this.#entries;
    return iterate(this, 'value') as IterableIterator<string | File>;
  }
  declare [Symbol.iterator]: () => IterableIterator<FormEntry>;
}
Object.defineProperty(FormData.prototype, Symbol.iterator, {
  // oxlint-disable-next-line typescript/unbound-method -- the same function under two names
  value: FormData.prototype.entries,
  writable: true,
  configurable: true,
});

/** In a form, a byte order mark is text. */
const decodeWithBom = (bytes: Uint8Array): string => new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes);
const usvString = (value: unknown): string => domString(value).toWellFormed();

function entryOf(name: unknown, value: unknown, filename: readonly unknown[]): FormEntry {
  const key = usvString(name);
  if (!(value instanceof Blob)) {
    if (filename.length > 0) throw new TypeError('only a Blob has a file name');
    return [key, usvString(value)];
  }
  if (value instanceof File && filename.length === 0) return [key, value];
  const { lastModified } = value as Partial<File>;
  const options = { type: value.type, ...(lastModified === undefined ? {} : { lastModified }) };
  return [key, new File([value], filename.length === 0 ? 'blob' : usvString(filename[0]), options)];
}

/** HTML §4.10.21.8: the form as multipart/form-data, and its media type. */
export function encodeFormData(data: FormData): { readonly bytes: Uint8Array<ArrayBuffer>; readonly type: string } {
  const random = Array.from(new Uint8Array(host().random(16)), (byte) => byte.toString(16).padStart(2, '0'));
  const boundary = `----formdata-cfn-${random.join('')}`;
  const newlines = (text: string): string => text.replace(/\r\n?|\n/g, '\r\n');
  const escape = (text: string): string => text.replace(/\n/g, '%0A').replace(/\r/g, '%0D').replace(/"/g, '%22');
  const parts: Uint8Array[] = [];
  for (const [name, value] of entriesOf(data)) {
    const head = `--${boundary}\r\nContent-Disposition: form-data; name="${escape(newlines(name))}"`;
    if (typeof value === 'string') parts.push(encodeUtf8(`${head}\r\n\r\n${newlines(value)}\r\n`));
    else {
      const type = value.type === '' ? 'application/octet-stream' : value.type;
      parts.push(encodeUtf8(`${head}; filename="${escape(value.name)}"\r\nContent-Type: ${type}\r\n\r\n`));
      parts.push(bytesOfBlob(value), encodeUtf8('\r\n'));
    }
  }
  parts.push(encodeUtf8(`--${boundary}--\r\n`));
  return { bytes: concatBytes(...parts), type: `multipart/form-data; boundary=${boundary}` };
}

/**
 * A body as a form, by its media type (Fetch Standard §5.2).
 *
 * @throws {TypeError} when it is none
 */
export function parseFormData(bytes: Uint8Array, contentType: string | null): FormData {
  const type = extractMimeType(contentType);
  const data = new FormData();
  if (type?.essence === 'application/x-www-form-urlencoded') {
    for (const [name, value] of new URLSearchParams(decodeWithBom(bytes))) data.append(name, value);
    return data;
  }
  const boundary = type?.parameters.get('boundary');
  if (type?.essence !== 'multipart/form-data' || boundary === undefined) throw new TypeError('the body is not a form');
  for (const { name, filename, type: partType, content } of parseMultipart(bytes, boundary)) {
    if (filename === undefined) data.append(name, decodeWithBom(content));
    else data.append(name, new File([content], filename, { type: partType }));
  }
  return data;
}
