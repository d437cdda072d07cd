import { domString } from './dom-string.ts';
import { Body, extractBody, teeBody, type BodyInit } from './body.ts';
import { Headers, type HeadersInit } from './headers.ts';
import { URL } from './url.ts';

export interface ResponseInit {
  status?: number;
  statusText?: string;
  headers?: HeadersInit;
}
const NULL_BODY = new Set([101, 103, 204, 205, 304]);
const REDIRECT = new Set([301, 302, 303, 307, 308]);

let isResponse!: (value: unknown) => value is Response;
export { isResponse };

/** Fetch Standard §5.4. */
export class Response extends Body {
  readonly #status: number;
  readonly #statusText: string;
  readonly #headers: Headers;

  static {
    isResponse = (value): value is Response => typeof value === 'object' && value !== null && #status in value;
  }
  constructor(body: BodyInit | null = null, init: ResponseInit = {}) {
    const status = init?.status === undefined ? 200 : Math.trunc(Number(init.status));
    if (!(status >= 200 && status <= 599)) throw new RangeError('the status of a response is from 200 to 599');
    if (body !== null && NULL_BODY.has(status)) throw new TypeError(`a response with status ${status} has no body`);
    const content = extractBody(body);
    super(content);
    this.#status = status;
    this.#statusText = domString(init?.statusText ?? '');
    this.#headers = new Headers(init?.headers);
    if (content.type !== null && !this.#headers.has('content-type')) this.#headers.set('content-type', content.type);
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
    return 'default';
  }
  get url(): string {
    return '';
  }
  get redirected(): boolean {
    return false;
  }
  clone(): Response {
    const { bytes, stream } = teeBody(this);
    const init = { status: this.#status, statusText: this.#statusText, headers: this.#headers };
    return new Response((stream ?? bytes) as BodyInit | null, init);
  }
  static json(data: unknown, init: ResponseInit = {}): Response {
    const text = JSON.stringify(data);
    if (text === undefined) throw new TypeError('the value has no JSON form');
    const headers = new Headers(init?.headers);
    if (!headers.has('content-type')) headers.set('content-type', 'application/json');
    return new Response(text, { ...init, headers });
  }
  static redirect(url: unknown, status = 302): Response {
    const location = new URL(domString(url)).href;
    if (!REDIRECT.has(status)) throw new RangeError(`${status} is not the status of a redirect`);
    return new Response(null, { status, headers: { location } });
  }
  get [Symbol.toStringTag](): string {
    return 'Response';
  }
}
