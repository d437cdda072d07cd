import { domString } from './dom-string.ts';
const NAME = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

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
type Guard = 'none' | 'immutable';

let rawEntries!: (headers: Headers) => [string, string][];
let headersOf!: (entries: readonly (readonly [string, string])[], guard: Guard) => Headers;
/** All fields, lower case, in the order they were added; `headersOf` takes entries that were checked before. */
export { rawEntries, headersOf };

/** Fetch Standard §5.1. */
export class Headers {
  #entries: [string, string][] = [];
  #guard: Guard = 'none';

  static {
    rawEntries = (headers) => headers.#entries;
    headersOf = (entries, guard) => {
      const headers = new Headers();
      headers.#entries = entries.map(([name, value]) => [name, value]);
      headers.#guard = guard;
      return headers;
    };
  }
  constructor(init?: HeadersInit) {
    if (init === undefined) return;
    if (typeof init !== 'object' || init === null) throw new TypeError('headers need an object');
    if (init instanceof Headers) this.#entries = init.#entries.map(([name, value]) => [name, value]);
    else if (Symbol.iterator in init) {
      for (const pair of init) {
        const [name, value, ...rest] = [...pair];
        if (value === undefined || rest.length > 0) throw new TypeError('a header is a pair of name and value');
        this.append(name, value);
      }
    } else
      for (const name of Reflect.ownKeys(init))
        if (Object.prototype.propertyIsEnumerable.call(init, name)) this.append(name, Reflect.get(init, name));
  }
  #write(): void {
    if (this.#guard === 'immutable') throw new TypeError('these headers cannot be changed');
  }
  append(name: unknown, value: unknown): void {
    const entry: [string, string] = [nameOf(name), valueOf(value)];
    this.#write();
    this.#entries.push(entry);
  }
  delete(name: unknown): void {
    const wanted = nameOf(name);
    this.#write();
    this.#entries = this.#entries.filter(([known]) => known !== wanted);
  }
  get(name: unknown): string | null {
    const wanted = nameOf(name);
    const values = this.#entries.filter(([known]) => known === wanted).map(([, value]) => value);
    return values.length === 0 ? null : values.join(', ');
  }
  getSetCookie(): string[] {
    return this.#entries.filter(([name]) => name === 'set-cookie').map(([, value]) => value);
  }
  has(name: unknown): boolean {
    const wanted = nameOf(name);
    return this.#entries.some(([known]) => known === wanted);
  }
  set(name: unknown, value: unknown): void {
    const [wanted, text] = [nameOf(name), valueOf(value)];
    this.#write();
    const at = this.#entries.findIndex(([known]) => known === wanted);
    if (at < 0) this.#entries.push([wanted, text]);
    else
      this.#entries = this.#entries
        .filter(([known], i) => known !== wanted || i === at)
        .map((entry) => (entry[0] === wanted ? [wanted, text] : entry));
  }
  forEach(callback: (value: string, name: string, headers: Headers) => void, thisArg?: unknown): void {
    for (const [name, value] of this) callback.call(thisArg, value, name, this);
  }
  *entries(): Generator<[string, string]> {
    const names = [...new Set(this.#entries.map(([name]) => name))].sort();
    for (const name of names) {
      if (name === 'set-cookie') for (const value of this.getSetCookie()) yield [name, value];
      else yield [name, this.get(name) ?? ''];
    }
  }
  *keys(): Generator<string> {
    for (const [name] of this.entries()) yield name;
  }
  *values(): Generator<string> {
    for (const [, value] of this.entries()) yield value;
  }
  [Symbol.iterator](): Generator<[string, string]> {
    return this.entries();
  }
  get [Symbol.toStringTag](): string {
    return 'Headers';
  }
}
