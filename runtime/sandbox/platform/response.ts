import { domString } from './dom-string.ts';
import { Body, extractBody, mixInBody, teeBody, type BodyInit, type ByteSource, type Extracted } from './body.ts';
import { baseUrl } from './base-url.ts';
import { guardHeaders, Headers, type HeadersInit } from './headers.ts';
import { URL } from './url.ts';
import { dictionaryOf, needArguments } from './web-idl.ts';

export interface ResponseInit {
  status?: number;
  statusText?: string;
  headers?: HeadersInit;
}
const NULL_BODY = new Set([101, 103, 204, 205, 304]);
const REDIRECT = new Set([301, 302, 303, 307, 308]);

/** Marks constructor calls of our own; nobody outside has it. */
const FETCHED = Object.freeze({});

let isResponse!: (value: unknown) => value is Response;
/** What was fetched. */
let fetchedResponse!: (body: ByteSource, init: ResponseInit, url: string, redirected: boolean) => Response;
export { fetchedResponse, isResponse };

/** Fetch Standard §5.4. */
export class Response extends Body {
  #status: number;
  readonly #statusText: string;
  readonly #headers: Headers;
  #url = '';
  #redirected = false;

  static {
    fetchedResponse = (source, init, url, redirected) => {
      const body: Extracted = { bytes: null, source, stream: null, type: null };
      const response = new Response(NULL_BODY.has(init.status ?? 200) ? null : (FETCHED as BodyInit), init, body);
      response.#url = url;
      response.#redirected = redirected;
      return response;
    };
    isResponse = (value): value is Response => typeof value === 'object' && value !== null && #status in value;
  }
  constructor(body: BodyInit | null = null, init: ResponseInit = {}, ...fetched: unknown[]) {
    const given = dictionaryOf(init) as ResponseInit;
    const status = given.status === undefined ? 200 : Math.trunc(Number(given.status));
    if (!(status >= 200 && status <= 599)) throw new RangeError('the status of a response is from 200 to 599');
    const statusText = domString(given.statusText ?? '');
    if (!/^[\t\x20-\x7e\x80-\xff]*$/.test(statusText))
      throw new TypeError('the status text has a character that is not allowed');
    const headers = new Headers(given.headers);
    if (body !== null && NULL_BODY.has(status)) throw new TypeError(`a response with status ${status} has no body`);
    const content = body === FETCHED ? (fetched[0] as Extracted) : extractBody(body);
    super(content);
    this.#status = status;
    this.#statusText = statusText;
    this.#headers = headers;
    if (content.type !== null && !headers.has('content-type')) headers.set('content-type', content.type);
  }
  get status(): number {
    return this.#status;
  }
  get statusText(): string {
    return this.#statusText;
  }
  get ok(): boolean {
    return this.#status >= 200 && this.#status <= 299;
  }
  get headers(): Headers {
    return this.#headers;
  }
  get type(): string {
    return this.#status === 0 ? 'error' : 'default';
  }
  get url(): string {
    return this.#url;
  }
  get redirected(): boolean {
    return this.#redirected;
  }
  clone(): Response {
    const { bytes, stream } = teeBody(this);
    const init = { status: this.#status, statusText: this.#statusText, headers: this.#headers };
    const copy = new Response((stream ?? bytes) as BodyInit | null, this.#status === 0 ? {} : init);
    copy.#status = this.#status;
    copy.#url = this.#url;
    copy.#redirected = this.#redirected;
    return copy;
  }
  static error(): Response {
    const response = new Response();
    response.#status = 0;
    guardHeaders(response.#headers, 'immutable');
    return response;
  }
  static json(data: unknown, init: ResponseInit = {}): Response {
    needArguments(arguments.length, 1, 'json');
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError('the value has no JSON form');
    const given = dictionaryOf(init) as ResponseInit;
    const headers = new Headers(given.headers);
    if (!headers.has('content-type')) headers.set('content-type', 'application/json');
    return new Response(text, { ...given, headers });
  }
  static redirect(url: unknown, status: unknown = 302): Response {
    needArguments(arguments.length, 1, 'redirect');
    const location = new URL(domString(url), baseUrl()).href;
    const code = Math.trunc(Number(status));
    if (!REDIRECT.has(code)) throw new RangeError(`${code} is not the status of a redirect`);
    const response = new Response(null, { status: code, headers: { location } });
    guardHeaders(response.#headers, 'immutable');
    return response;
  }
}
mixInBody(Response);
