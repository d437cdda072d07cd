import { CfnError, concatBytes, fromUtf8 } from '../../proto/index.ts';

export interface HttpOptions {
  readonly fetch: typeof fetch;
  readonly timeoutMs: number;
}

export interface HttpRequest {
  /** For messages, such as `NRAS`. */
  readonly what: string;
  readonly url: string;
  readonly init?: RequestInit;
  /** Largest answer, in bytes. What comes beyond it is never held. */
  readonly bytesMax: number;
}

/**
 * Fetches a text from a vendor's service. Redirects are not followed: each service has the one address that is configured.
 *
 * @throws {CfnError} `CFN_VENDOR_UNREACHABLE` when there is no answer in time, another status than 200, or too long an answer.
 */
export async function fetchText(request: HttpRequest, options: HttpOptions): Promise<string> {
  return fromUtf8(await fetchBytes(request, options), 'CFN_VENDOR_UNREACHABLE');
}

/** Like {@link fetchText}, for what is no text. */
export async function fetchBytes(request: HttpRequest, options: HttpOptions): Promise<Uint8Array> {
  return (await fetchAnswer(request, options)).bytes;
}

/** Like {@link fetchBytes}, with the answer's headers. */
export async function fetchAnswer(
  request: HttpRequest,
  options: HttpOptions,
): Promise<{ readonly bytes: Uint8Array; readonly headers: Headers }> {
  const { what, url, init, bytesMax } = request;
  try {
    const signal = AbortSignal.timeout(options.timeoutMs);
    const response = await options.fetch(url, { ...init, redirect: 'error', signal });
    if (response.status !== 200) {
      await response.body?.cancel();
      throw new VendorRefusal(what, response);
    }
    return { bytes: await readAll(response, what, bytesMax), headers: response.headers };
  } catch (cause) {
    if (cause instanceof CfnError) throw cause;
    throw unreachable(`${what} does not answer at ${new URL(url).origin}`, { cause });
  }
}

/** The service answered, with another status than 200. */
export class VendorRefusal extends CfnError {
  /** HTTP status. */
  readonly answered: number;
  /** The header of that name, as it came. */
  readonly retryAfter: string | undefined;

  constructor(what: string, { status, headers }: Response) {
    super('CFN_VENDOR_UNREACHABLE', `${what} answers ${status}`);
    this.answered = status;
    this.retryAfter = headers.get('retry-after') ?? undefined;
  }
}

async function readAll(response: Response, what: string, bytesMax: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    if (bytes > bytesMax) throw unreachable(`${what} answers with over ${bytesMax} bytes`); // leaving the loop cancels the body
    parts.push(part);
  }
  return concatBytes(...parts);
}

function unreachable(message: string, options?: ErrorOptions): CfnError {
  return new CfnError('CFN_VENDOR_UNREACHABLE', message, options);
}
