import { isSafelisted } from './cors-safelist.ts';
import { domString } from './dom-string.ts';
import { needCallback, pairIterators } from './pair-iterator.ts';
import { isObject, needArguments, sequenceOf } from './web-idl.ts';

const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
type Entry = [string, string];

function nameOf(name: unknown): string {
  const text = domString(name);
  if (!NAME.test(text)) throw new TypeError('a header name is empty or has a character that is not allowed');
  return text.toLowerCase();
}

/** A byte string without white space around it. */
function valueOf(value: unknown): string {
  const text = domString(value).replace(/^[\t\n\r ]+|[\t\n\r ]+$/g, '');
  // Wider than the Fetch Standard, which refuses only NUL, LF and CR: no control character gets into binary HTTP (RFC 9110 §5.5).
  // oxlint-disable-next-line no-control-regex
  if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(text))
    throw new TypeError('a header value has a character that is not allowed');
  return text;
}

export type HeadersInit = Headers | Iterable<readonly [string, string]> | Readonly<Record<string, string>>;
/** Forbidden names are a browser's: a function may set any. */
type Guard = 'none' | 'immutable' | 'request-no-cors';

let rawEntries!: (headers: Headers) => Entry[];
let headersOf!: (entries: readonly (readonly [string, string])[], guard: Guard) => Headers;
let guardHeaders!: (headers: Headers, guard: Guard) => void;
let sorted!: (headers: Headers) => readonly Entry[];
/** All fields, lower case, in the order they were added; `headersOf` takes entries that were checked before. */
export { rawEntries, headersOf, guardHeaders };

const iterate = pairIterators<Headers>('Headers', (headers) => sorted(headers));

/** Fetch Standard §5.1. */
export class Headers {
  #entries: Entry[] = [];
  #guard: Guard = 'none';
  #sorted: readonly Entry[] | undefined;

  static {
    rawEntries = (headers) => headers.#entries;
    headersOf = (entries, guard) => {
      const headers = new Headers();
      headers.#entries = entries.map(([name, value]) => [name, value]);
      headers.#guard = guard;
      return headers;
    };
    guardHeaders = (headers, guard) => {
      headers.#guard = guard;
      if (guard !== 'request-no-cors') return;
      const all = headers.#entries;
      headers.#entries = [];
      for (const [name, value] of all) headers.append(name, value);
    };
    sorted = (headers) => (headers.#sorted ??= headers.#sort());
  }
  constructor(...given: readonly unknown[]) {
    const [init] = given; // Web IDL counts no parameter
    if (init === undefined) return;
    if (!isObject(init)) throw new TypeError('headers need an object');
    const iterator: unknown = Reflect.get(init, Symbol.iterator);
    if (iterator !== undefined && iterator !== null) {
      for (const pair of sequenceOf(init, 'the headers')) {
        const parts = sequenceOf(pair, 'a header');
        if (parts.length !== 2) throw new TypeError('a header is a pair of name and value');
        this.append(parts[0], parts[1]);
      }
      return;
    }
    const pairs = new Map<string, unknown>();
    for (const key of Reflect.ownKeys(init))
      if (Reflect.getOwnPropertyDescriptor(init, key)?.enumerable)
        pairs.set(byteString(key), byteString(Reflect.get(init, key)));
    for (const [name, value] of pairs) this.append(name, value);
  }
  /** False where a change is ignored. */
  #mayChange(name: string, value: string | null): boolean {
    if (this.#guard === 'immutable') throw new TypeError('these headers cannot be changed');
    if (this.#guard === 'request-no-cors' && !isSafelisted(name, value)) return false;
    this.#sorted = undefined;
    return true;
  }
  #sort(): Entry[] {
    const names = [...new Set(this.#entries.map(([name]) => name))].sort();
    return names.flatMap((name): Entry[] =>
      name === 'set-cookie' ? this.getSetCookie().map((value): Entry => [name, value]) : [[name, this.get(name) ?? '']],
    );
  }
  append(name: unknown, value: unknown): void {
    needArguments(arguments.length, 2, 'append');
    const [key, text] = [nameOf(name), valueOf(value)];
    const known = this.#guard === 'request-no-cors' ? this.get(key) : null;
    if (this.#mayChange(key, known === null ? text : `${known}, ${text}`)) this.#entries.push([key, text]);
  }
  delete(name: unknown): void {
    needArguments(arguments.length, 1, 'delete');
    const wanted = nameOf(name);
    if (this.#mayChange(wanted, null)) this.#entries = this.#entries.filter(([known]) => known !== wanted);
  }
  get(name: unknown): string | null {
    needArguments(arguments.length, 1, 'get');
    const wanted = nameOf(name);
    const values = this.#entries.filter(([known]) => known === wanted).map(([, value]) => value);
    return values.length === 0 ? null : values.join(', ');
  }
  getSetCookie(): string[] {
    return this.#entries.filter(([name]) => name === 'set-cookie').map(([, value]) => value);
  }
  has(name: unknown): boolean {
    needArguments(arguments.length, 1, 'has');
    const wanted = nameOf(name);
    return this.#entries.some(([known]) => known === wanted);
  }
  set(name: unknown, value: unknown): void {
    needArguments(arguments.length, 2, 'set');
    const [wanted, text] = [nameOf(name), valueOf(value)];
    if (!this.#mayChange(wanted, text)) return;
    const at = this.#entries.findIndex(([known]) => known === wanted);
    if (at < 0) this.#entries.push([wanted, text]);
    else
      this.#entries = this.#entries
        .filter(([known], i) => known !== wanted || i === at)
        .map((entry) => (entry[0] === wanted ? [wanted, text] : entry));
  }
  forEach(callback: (value: string, name: string, headers: Headers) => void): void {
    needCallback(callback);
    // oxlint-disable-next-line prefer-rest-params -- Web IDL counts one parameter
    const thisArg: unknown = arguments[1];
    for (let i = 0; i < sorted(this).length; i++) {
      const [name, value] = sorted(this)[i] as Entry;
      callback.call(thisArg, value, name, this);
    }
  }
  entries(): IterableIterator<Entry> {
    void this.#entries;
    return iterate(this, 'key+value') as IterableIterator<Entry>;
  }
  keys(): IterableIterator<string> {
    void this.#entries;
    return iterate(this, 'key') as IterableIterator<string>;
  }
  values(): IterableIterator<string> {
    void this.#entries;
    return iterate(this, 'value') as IterableIterator<string>;
  }
  declare [Symbol.iterator]: () => IterableIterator<Entry>;
}
Object.defineProperty(Headers.prototype, Symbol.iterator, {
  // oxlint-disable-next-line typescript/unbound-method -- the same function under two names
  value: Headers.prototype.entries,
  writable: true,
  configurable: true,
});

/** Web IDL §3.2.11. */
function byteString(value: unknown): string {
  const text = domString(value);
  // oxlint-disable-next-line no-control-regex
  if (!/^[\x00-\xff]*$/.test(text)) throw new TypeError('a header has a character over U+00FF');
  return text;
}
