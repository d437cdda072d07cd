import type { z } from 'zod';
import type { Context } from './context.ts';
import { need, type Settings } from './settings.ts';
import { CfnError, concatBytes, fromProblem, fromUtf8, MANIFEST_BYTES_MAX, utf8 } from '../proto/index.ts';

/** How long a service may take for one answer, in ms. A deployment waits until workers have loaded the models. */
const ANSWER_MS_MAX = 10 * 60_000;
/** Largest answer of the control plane, in bytes. */
const ANSWER_BYTES_MAX = 16 * MANIFEST_BYTES_MAX;

export interface Answer {
  readonly bytes: Uint8Array;
  readonly headers: Headers;
}

/** The control plane of one service. */
export interface Api {
  bytes(path: string): Promise<Answer>;
  json<T>(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    schema: z.ZodType<T>,
    body?: Uint8Array | object,
  ): Promise<T>;
}

export interface ApiOptions {
  readonly service: 'gateway' | 'kms';
  readonly url: string;
  readonly token?: string | undefined;
  readonly fetch: typeof globalThis.fetch;
  readonly signal: AbortSignal;
}

/**
 * Calls a service; its problems come back as the errors they were there.
 *
 * @throws {CfnError} from each call: the service's own code, or `CFN_GATEWAY_UNREACHABLE`/`CFN_KMS_UNREACHABLE`, or `CFN_ABORTED`
 */
export function apiClient({ service, url, token, fetch, signal }: ApiOptions): Api {
  const unreachable = (what: string, cause?: unknown): CfnError => {
    if (signal.aborted) return new CfnError('CFN_ABORTED', 'ended by the user', { cause });
    return new CfnError(service === 'kms' ? 'CFN_KMS_UNREACHABLE' : 'CFN_GATEWAY_UNREACHABLE', `${url}: ${what}`, {
      cause,
    });
  };

  async function call(method: string, path: string, body?: Uint8Array | object): Promise<Answer> {
    const bytes = body === undefined || body instanceof Uint8Array ? body : utf8(JSON.stringify(body));
    let response: Response;
    let answer: Uint8Array;
    try {
      response = await fetch(new URL(path, url), {
        method,
        headers: {
          ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
          ...(bytes === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(bytes === undefined ? {} : { body: bytes as Uint8Array<ArrayBuffer> }),
        redirect: 'error', // It would carry the token elsewhere.
        signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS_MAX)]),
      });
      answer = await readAll(response, () => unreachable(`the answer is over ${ANSWER_BYTES_MAX} bytes`));
    } catch (cause) {
      throw cause instanceof CfnError ? cause : unreachable('no whole answer', cause);
    }
    if (response.ok) return { bytes: answer, headers: response.headers };
    throw (
      fromProblem(tryJson(answer)) ?? unreachable(`answered ${response.status}, as no ${service} of this kind does`)
    );
  }

  return {
    bytes: (path) => call('GET', path),
    async json(method, path, schema, body) {
      const parsed = schema.safeParse(tryJson((await call(method, path, body)).bytes));
      if (!parsed.success)
        throw unreachable(`the answer to ${method} ${path} is not what a ${service} says`, parsed.error);
      return parsed.data;
    },
  };
}

/** The KMS of the settings, for the owner or administrator whose token is there. */
export function kmsApi(settings: Settings, { fetch, ended }: Pick<Context, 'fetch' | 'ended'>): Api {
  return apiClient({
    service: 'kms',
    url: need(settings, 'kms'),
    token: need(settings, 'kmsToken'),
    fetch,
    signal: ended,
  });
}

async function readAll(response: Response, tooLarge: () => CfnError): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > ANSWER_BYTES_MAX) throw tooLarge();
    pieces.push(piece);
  }
  return concatBytes(...pieces);
}

function tryJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(fromUtf8(bytes)) as unknown;
  } catch {
    return undefined; // The caller refuses what is not there.
  }
}
