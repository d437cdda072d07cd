import { domString } from './dom-string.ts';
import type { DecodedRequest } from '../../../proto/bhttp.ts';
import { AbortController, AbortSignal } from './abort.ts';
import { baseUrl } from './base-url.ts';
import {
  Body,
  extractBody,
  holdsBody,
  mixInBody,
  takeBody,
  teeBody,
  type BodyInit,
  type ByteSource,
  type Extracted,
} from './body.ts';
import { guardHeaders, Headers, headersOf, type HeadersInit } from './headers.ts';
import { isLoaded } from './lazy.ts';
import { settingsOf, type RequestSettings } from './request-settings.ts';
import { URL } from './url.ts';
import { dictionaryOf, needArguments } from './web-idl.ts';

export interface RequestInit {
  method?: string;
  headers?: HeadersInit;
  body?: BodyInit | null;
  signal?: AbortSignal | null;
  duplex?: string;
}

const DEFAULTS: RequestSettings = {
  cache: 'default',
  credentials: 'same-origin',
  integrity: '',
  keepalive: false,
  mode: 'cors',
  redirect: 'follow',
  referrer: 'about:client',
  referrerPolicy: '',
};
const SETTINGS = [...Object.keys(DEFAULTS), 'duplex', 'priority', 'window'] as (keyof RequestInit)[];

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

let requestFrom!: (decoded: DecodedRequest, body: ByteSource | undefined, signal: () => AbortSignal) => Request;
/** The request that came in; `body`, where it is still coming. Its URL is parsed when somebody reads it. */
export { requestFrom };

/** Fetch Standard §5.3, without what belongs to a browser's cache, credentials and origin. */
export class Request extends Body {
  #method: string;
  #headers: Headers;
  #url: string | undefined;
  readonly #rawUrl: string;
  #settings: RequestSettings = DEFAULTS;
  #signal: AbortSignal | undefined;
  /** What `signal` follows, once somebody asks for it. */
  #follows: (() => AbortSignal) | undefined;

  static {
    requestFrom = (decoded, body, signal) => {
      const { method, scheme, authority, path } = decoded;
      const request = new Request(INCOMING, {}, `${scheme}://${authority}${path}`, {
        bytes: body === undefined && decoded.body.length > 0 ? decoded.body : null,
        source: body,
        stream: null,
        type: null,
      });
      request.#follows = signal;
      request.#method = method;
      request.#headers = headersOf(decoded.headers, 'immutable');
      return request;
    };
  }
  constructor(input: unknown, init: unknown = {}, ...incoming: unknown[]) {
    if (input === INCOMING) {
      super(incoming[1] as Extracted);
      this.#rawUrl = incoming[0] as string;
      this.#method = 'GET';
      this.#headers = new Headers();
      return;
    }
    needArguments(arguments.length, 1, 'Request');
    const base = input instanceof Request ? input : undefined;
    const url = base === undefined ? new URL(domString(input), baseUrl()) : undefined;
    if (url !== undefined && (url.username !== '' || url.password !== ''))
      throw new TypeError('the URL has credentials');
    const given = dictionaryOf(init) as RequestInit;
    const inheritedSettings = base === undefined ? DEFAULTS : base.#settings;
    const settings = SETTINGS.some((name) => given[name] !== undefined)
      ? settingsOf(given, inheritedSettings)
      : inheritedSettings;
    const method = methodOf(given.method ?? base?.method ?? 'GET');
    const isNoCors = settings.mode === 'no-cors';
    if (isNoCors && !['GET', 'HEAD', 'POST'].includes(method))
      throw new TypeError(`the method ${method} is not allowed with the mode 'no-cors'`);
    const signals = given.signal === undefined ? base?.signal : given.signal;
    if (signals !== undefined && signals !== null && !(isLoaded('abort') && signals instanceof AbortSignal))
      throw new TypeError('the signal is not an AbortSignal');
    const hasBody = given.body !== undefined && given.body !== null;
    if ((hasBody || (base !== undefined && holdsBody(base))) && (method === 'GET' || method === 'HEAD'))
      throw new TypeError(`a ${method} request has no body`);
    const content = hasBody || base === undefined ? extractBody(given.body, settings.keepalive) : inherited(base);
    if (hasBody && content.stream !== null && given.duplex === undefined)
      throw new TypeError("a request with a stream as its body needs duplex: 'half'");
    super(content);
    this.#method = method;
    this.#rawUrl = base === undefined ? (url?.href ?? '') : base.url;
    this.#headers = new Headers(given.headers ?? base?.headers);
    if (isNoCors) guardHeaders(this.#headers, 'request-no-cors');
    if (hasBody && content.type !== null && !this.#headers.has('content-type'))
      this.#headers.append('content-type', content.type);
    this.#settings = settings;
    this.#follows = signals === undefined || signals === null ? undefined : () => signals;
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
  get destination(): string {
    void this.#method;
    return '';
  }
  get referrer(): string {
    return this.#settings.referrer;
  }
  get referrerPolicy(): string {
    return this.#settings.referrerPolicy;
  }
  get mode(): string {
    return this.#settings.mode;
  }
  get credentials(): string {
    return this.#settings.credentials;
  }
  get cache(): string {
    return this.#settings.cache;
  }
  get redirect(): string {
    return this.#settings.redirect;
  }
  get integrity(): string {
    return this.#settings.integrity;
  }
  get keepalive(): boolean {
    return this.#settings.keepalive;
  }
  get duplex(): string {
    void this.#method;
    return 'half';
  }
  get signal(): AbortSignal {
    return (this.#signal ??=
      this.#follows === undefined ? new AbortController().signal : AbortSignal.any([this.#follows()]));
  }
  clone(): Request {
    const copy = new Request(INCOMING, {}, this.#rawUrl, teeBody(this));
    copy.#method = this.#method;
    copy.#headers = new Headers(this.#headers);
    if (this.mode === 'no-cors') guardHeaders(copy.#headers, 'request-no-cors');
    copy.#settings = this.#settings;
    const signal = this.#signal;
    copy.#follows = signal === undefined ? this.#follows : () => signal; // none of them: nothing can abort it
    return copy;
  }
}

mixInBody(Request);

function inherited(base: Request): Extracted {
  const content = takeBody(base);
  return { bytes: null, stream: null, type: null, ...content };
}
