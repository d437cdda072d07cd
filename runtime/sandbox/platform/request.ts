import { domString } from './dom-string.ts';
import type { DecodedRequest } from '../../../proto/bhttp.ts';
import { AbortController, type AbortSignal } from './abort.ts';
import { Body, extractBody, takeBody, teeBody, type BodyInit } from './body.ts';
import { Headers, headersOf, type HeadersInit } from './headers.ts';
import { URL } from './url.ts';

export interface RequestInit {
  method?: string;
  headers?: HeadersInit;
  body?: BodyInit | null;
  signal?: AbortSignal | null;
  redirect?: string;
}

const STANDARD = new Set(['DELETE', 'GET', 'HEAD', 'OPTIONS', 'POST', 'PUT']);
function methodOf(method: unknown): string {
  const text = domString(method);
  if (!/^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(text)) throw new TypeError('the method is not a token');
  const upper = text.toUpperCase();
  if (upper === 'CONNECT' || upper === 'TRACE' || upper === 'TRACK')
    throw new TypeError(`the method ${upper} is not allowed`);
  return STANDARD.has(upper) ? upper : text;
}

/**
 * Whether the URL parser would surely leave it as it is: most requests then need no parser. A host of plain labels, a port that is not
 * the default, a path without escapes and segments that begin with a dot.
 */
function isSerialized(url: string): boolean {
  const plain =
    /^https:\/\/(?:[a-z][a-z0-9-]*\.)*[a-z][a-z0-9]*(?::(?!443\/)[1-9]\d{0,3})?\/[\w\-./~!$&()*+,;=:@]*(?:\?[\w\-./~!$&()*+,;=:@%?]*)?$/;
  return plain.test(url) && !url.includes('/.') && !url.includes('xn--');
}

/** Marks constructor calls of our own; nobody outside has it. */
const INCOMING = Object.freeze({});

let requestFrom!: (decoded: DecodedRequest) => Request;
/** The request that came in. Its URL is parsed when somebody reads it. */
export { requestFrom };

/** Fetch Standard §5.3, without what belongs to a browser's cache, credentials and origin. */
export class Request extends Body {
  #method: string;
  #headers: Headers;
  #url: string | undefined;
  readonly #rawUrl: string;
  readonly #redirect: string;
  #signal: AbortSignal | undefined;

  static {
    requestFrom = (decoded) => {
      const { method, scheme, authority, path } = decoded;
      const request = new Request(INCOMING, {}, `${scheme}://${authority}${path}`, {
        bytes: decoded.body.length > 0 ? decoded.body : null,
        stream: null,
        type: null,
      });
      request.#method = method;
      request.#headers = headersOf(decoded.headers, 'immutable');
      return request;
    };
  }
  constructor(input: unknown, init: RequestInit = {}, ...incoming: unknown[]) {
    if (input === INCOMING) {
      super(incoming[1] as ReturnType<typeof extractBody>);
      this.#rawUrl = incoming[0] as string;
      this.#method = 'GET';
      this.#headers = new Headers();
      this.#redirect = 'follow';
      return;
    }
    const base = input instanceof Request ? input : undefined;
    const url = base === undefined ? new URL(domString(input)) : undefined; // no base: there is no location
    if (url !== undefined && (url.username !== '' || url.password !== ''))
      throw new TypeError('the URL has credentials');
    const method = methodOf(init.method ?? base?.method ?? 'GET');
    const given = init.body !== undefined && init.body !== null;
    if (given && (method === 'GET' || method === 'HEAD')) throw new TypeError(`a ${method} request has no body`);
    const content = given || base === undefined ? extractBody(init.body) : inherited(base);
    super(content);
    this.#method = method;
    this.#rawUrl = base === undefined ? (url?.href ?? '') : base.url;
    this.#headers = new Headers(init.headers ?? base?.headers);
    if (content.type !== null && !this.#headers.has('content-type')) this.#headers.set('content-type', content.type);
    this.#redirect = init.redirect ?? base?.redirect ?? 'follow';
    this.#signal = init.signal ?? base?.signal;
  }
  get method(): string {
    return this.#method;
  }
  get url(): string {
    return (this.#url ??= isSerialized(this.#rawUrl) ? this.#rawUrl : new URL(this.#rawUrl).href);
  }
  get headers(): Headers {
    return this.#headers;
  }
  get redirect(): string {
    return this.#redirect;
  }
  get signal(): AbortSignal {
    return (this.#signal ??= new AbortController().signal);
  }
  clone(): Request {
    const copy = new Request(INCOMING, {}, this.#rawUrl, teeBody(this));
    copy.#method = this.#method;
    copy.#headers = new Headers(this.#headers);
    copy.#signal = this.#signal;
    return copy;
  }
  get [Symbol.toStringTag](): string {
    return 'Request';
  }
}

function inherited(base: Request): { bytes: Uint8Array | null; stream: Request['body']; type: null } {
  const content = takeBody(base);
  if (content === undefined) return { bytes: null, stream: null, type: null };
  return 'bytes' in content
    ? { bytes: content.bytes, stream: null, type: null }
    : { bytes: null, stream: content.stream, type: null };
}
