import { CfnError } from '../proto/index.ts';
import { streamChunks } from './http.ts';
import type { PlainRequest } from './seal.ts';

/** The arguments of `fetch`, as what is sealed. */
export interface FetchCall {
  /** As the caller may read it in `response.url`. */
  readonly url: URL;
  readonly request: PlainRequest;
  readonly signal: AbortSignal | null;
  readonly redirect: RequestRedirect;
}

export interface FunctionAddress {
  /** URL of the gateway. */
  readonly endpoint: string;
  /** `tenant/name` */
  readonly function: string;
}

/**
 * Reads what `fetch` takes, bodies by the platform's own rules (form data, blobs, strings). A URL is relative to the endpoint or at
 * it; `/f/tenant/name`, the function's address in the open, may stand before its path. A body given as a stream in `init` is sent as it
 * comes; that of a `Request` is read first, as nothing says whether it was one.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` for another origin, and for what `fetch` takes only in the open
 */
export async function readFetchCall(
  { endpoint, function: name }: FunctionAddress,
  input: RequestInfo | URL,
  init: RequestInit = {},
): Promise<FetchCall> {
  const base = new URL(endpoint);
  const given = input instanceof Request ? input : undefined;
  const url = resolveUrl(input instanceof URL ? input.href : typeof input === 'string' ? input : input.url, base);
  if ((init.integrity ?? given?.integrity ?? '') !== '')
    throw new CfnError('CFN_INPUT_INVALID', 'integrity: the receipt has the digest of an answer; none is known before');
  const { signal = given?.signal ?? null, body, ...rest } = init;
  const streamed = body !== undefined && isStreamed(body) ? body : undefined;
  const head = given === undefined ? rest : { ...headOf(given), ...rest };
  const whole = streamed !== undefined ? undefined : (body ?? (await bodyOf(given)));
  const normal = asRequest(url, whole == null ? head : { ...head, body: whole });
  if (streamed !== undefined && (normal.method === 'GET' || normal.method === 'HEAD'))
    throw new CfnError('CFN_INPUT_INVALID', `a ${normal.method} has no body`);
  const bytes = streamed === undefined ? new Uint8Array(await normal.arrayBuffer()) : undefined;
  return {
    url,
    signal,
    redirect: init.redirect ?? given?.redirect ?? 'follow',
    request: {
      method: normal.method,
      authority: base.host,
      path: functionPath(url, name),
      headers: [...normal.headers],
      ...(streamed !== undefined
        ? { body: streamed instanceof ReadableStream ? streamChunks(streamed) : streamed }
        : bytes !== undefined && bytes.length > 0
          ? { body: bytes }
          : {}),
    },
  };
}

/** The request that a redirect asks for (Fetch standard, HTTP-redirect fetch): to the same function, or to nobody. */
export function redirected(
  { url, request, ...call }: FetchCall,
  address: FunctionAddress,
  status: number,
  location: string,
): FetchCall {
  const next = resolveUrl(location, url);
  const { body, bodyBytes, ...rest } = request;
  const path = functionPath(next, address.function);
  const asGet =
    (status === 303 && request.method !== 'GET' && request.method !== 'HEAD') ||
    ((status === 301 || status === 302) && request.method === 'POST');
  if (asGet) {
    const headers = request.headers.filter(([name]) => !name.toLowerCase().startsWith('content-'));
    return { ...call, url: next, request: { ...rest, method: 'GET', headers, path } };
  }
  if (body !== undefined && !(body instanceof Uint8Array))
    throw new CfnError('CFN_INPUT_INVALID', 'a body that was streamed cannot follow a redirect');
  return {
    ...call,
    url: next,
    request: { ...rest, path, ...(body && { body }), ...(bodyBytes !== undefined && { bodyBytes }) },
  };
}

/** Anywhere else there is nobody to seal to, and nothing is ever sent in the open. */
function resolveUrl(text: string, base: URL): URL {
  const url = URL.canParse(text, base.href) ? new URL(text, base) : undefined;
  if (url?.origin !== base.origin)
    throw new CfnError('CFN_INPUT_INVALID', `URL: expected a path, or a URL at ${base.origin}`);
  return url;
}

function functionPath({ pathname, search }: URL, name: string): string {
  const prefix = `/f/${name}`;
  const inside = pathname === prefix || pathname.startsWith(`${prefix}/`) ? pathname.slice(prefix.length) : pathname;
  return `${inside === '' ? '/' : inside}${search}`;
}

const isStreamed = (body: unknown): body is ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> =>
  typeof body === 'object' &&
  body !== null &&
  (body instanceof ReadableStream || (Symbol.asyncIterator in body && !(body instanceof Blob)));

const headOf = ({ method, headers }: Request): RequestInit => ({ method, headers });

async function bodyOf(request: Request | undefined): Promise<Uint8Array<ArrayBuffer> | undefined> {
  if (request === undefined || request.method === 'GET' || request.method === 'HEAD') return undefined;
  const bytes = new Uint8Array(await request.arrayBuffer());
  return bytes.length > 0 ? bytes : undefined;
}

function asRequest(url: URL, init: RequestInit): Request {
  try {
    return new Request(url, init);
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', 'method, header fields or body are none that fetch takes', { cause });
  }
}
