import type { AppraisalPolicy, AttestationResult } from '../attestation/verifier/index.ts';
import {
  bodyLimits,
  CfnError,
  concatBytes,
  ERRORS,
  fromProblem,
  isErrorCode,
  OHTTP_REQUEST_TYPE,
  OHTTP_RESPONSE_TYPE,
  type ErrorCode,
  type OhttpSuite,
} from '../proto/index.ts';
import { chooseWorker, ownLoad } from './choose-worker.ts';
import { confidentialityOf, toResponse, type ConfidentialResponse } from './confidential-response.ts';
import { gatewayUrl } from './gateway-url.ts';
import type { Hasher } from './hasher.ts';
import { bodyJson, send, streamChunks, toStream } from './http.ts';
import type { OpenedResponse } from './open.ts';
import { readFetchCall, redirected, type FetchCall } from './plain-request.ts';
import { isOutdated, isStream, mayRepeat, SEALED_MAX } from './seal-again.ts';
import { sealRequest, type PlainRequest } from './seal.ts';
import type { OfferedVersion } from './attestation.ts';
import { trustedWorkers, type Trusted, type TrustedWorker } from './trusted-workers.ts';
import { chooseVersion } from './version-choice.ts';

export interface ConfidentialFetchOptions {
  /** URL of the gateway. */
  readonly endpoint: string;
  /** `tenant/name` */
  readonly function: string;
  readonly policy: AppraisalPolicy;
  /** URL of an OHTTP relay (`cfn relay serve`) that everything goes through: the gateway then does not see the caller's address. */
  readonly relay?: string;
  readonly fetch?: typeof globalThis.fetch;
  readonly now?: () => Date;
  /** Pins a function version, while it is deployed; any other that the gateway offers is refused. */
  readonly version?: string;
  /** Where requests are split between versions: the same key gets the same one, while that is deployed. Default: by chance. */
  readonly versionKey?: string;
  /** Asks for evidence made for a nonce of ours, instead of that of the last admission. Costs a quote, and is rate limited. */
  readonly freshEvidence?: boolean;
  /**
   * The caller's token or API key, for functions that demand one; it is sent to no other. It goes outside of the seal, in `cfn-authorization`:
   * the gateway sees it, as does a relay in between, and the worker does not.
   */
  readonly token?: string | (() => string | Promise<string>);
  readonly suite?: OhttpSuite;
  readonly hasher?: () => Hasher;
}

/** As `fetch`, for URLs relative to the endpoint or at it. */
export type ConfidentialFetch = (input: RequestInfo | URL, init?: RequestInit) => Promise<ConfidentialResponse>;

const PROBLEM_BYTES_MAX = 64 * 1024;
const REDIRECTS_MAX = 20;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * A `fetch` for one function: appraises the workers, seals each call to one of them, opens the answer and checks its receipt.
 *
 * Nothing is ever sent in the open, nor is a sealed request sent twice. Where the gateway says that no worker has seen a request, or
 * where it is idempotent by its method or by an `Idempotency-Key`, it is sealed anew to another worker. Verified workers are kept
 * until their proof ends, and verified again before that, while calls go on.
 *
 * @throws {CfnError} when no worker holds under the policy; later the returned function throws what {@link sealRequest}, the
 *   gateway and a new appraisal say, and the reason of the caller's signal. Errors of the function itself are answers, not exceptions.
 */
export async function confidentialFetch(options: ConfidentialFetchOptions): Promise<ConfidentialFetch> {
  const { fetch = globalThis.fetch.bind(globalThis), now = () => new Date() } = options;
  const workers = trustedWorkers({ ...options, fetch, now });
  const own = ownLoad();
  await workers.current();

  return async (input, init) => {
    let call = await readFetchCall(options, input, init);
    for (let redirects = 0; ; redirects++) {
      const response = await untilAborted(call.signal, callFunction(call, redirects > 0));
      const location = REDIRECTS.has(response.status) ? response.headers.get('location') : null;
      if (location === null || call.redirect === 'manual') return response;
      await response.arrayBuffer(); // to its end, so that its receipt is checked
      if (call.redirect === 'error' || redirects === REDIRECTS_MAX)
        throw new CfnError('CFN_INPUT_INVALID', 'the function redirects, more often than was asked for');
      call = redirected(call, options, response.status, location);
    }
  };

  async function callFunction(call: FetchCall, wasRedirected: boolean): Promise<ConfidentialResponse> {
    let trusted = await workers.current();
    let renewed = false;
    let version = await versionFor(trusted);
    let candidates = servers(trusted, version);
    const tried = new Set<string>();
    for (let sealed = 1; ; sealed++) {
      const worker = chooseWorker(candidates, own)?.result;
      if (worker === undefined) throw new CfnError('CFN_WORKER_UNAVAILABLE', 'the lease of every worker has ended');
      try {
        return await sealTo(worker, version, call, wasRedirected);
      } catch (error) {
        if (call.signal?.aborted === true || sealed === SEALED_MAX || !mayRepeat(error, call.request)) throw error;
        tried.add(worker.workerId);
        const renew: boolean = isOutdated(error) && !renewed;
        if (renew) {
          trusted = await workers.renew(trusted);
          version = await versionFor(trusted);
        }
        renewed ||= renew;
        const all = servers(trusted, version);
        const others = all.filter(({ result }) => !tried.has(result.workerId));
        candidates = others.length > 0 || !renew ? others : all; // the same one may hold anew
        if (candidates.length === 0) throw error;
      }
    }
  }

  function versionFor({ versions, workers: holding }: Trusted): Promise<OfferedVersion> {
    const ids = holding.map(({ result }) => result.workerId);
    return chooseVersion(versions, options.function, options.versionKey, ids);
  }

  async function sealTo(
    worker: AttestationResult,
    { manifest: { version, manifest } }: OfferedVersion,
    { url, request, signal }: FetchCall,
    wasRedirected: boolean,
  ): Promise<ConfidentialResponse> {
    const { workerKeys, workerId } = worker;
    const { suite, hasher } = options;
    const sealing = { workerKeys, workerId, version, request, now: now(), suite, hasher };
    const exchange = await sealRequest({ ...sealing, ...bodyLimits(manifest.limits) });
    const body = await outerBody(request, exchange.body);
    const headers = {
      'content-type': OHTTP_REQUEST_TYPE,
      accept: OHTTP_RESPONSE_TYPE,
      incremental: '?1',
      'cfn-worker': workerId,
      'cfn-function-version': version,
      ...(manifest.caller.auth === 'token' ? await tokenField(options.token) : {}),
    };
    const over = own.begin(workerId);
    try {
      const response = await send(
        () => fetch(gatewayUrl(options, `/f/${options.function}/`), { ...OUTER, headers, ...body, signal }),
        signal,
      );
      if (!response.ok || mediaType(response) !== OHTTP_RESPONSE_TYPE) throw await refusal(response);
      const broken = (cause: unknown): unknown =>
        signal?.aborted === true
          ? signal.reason
          : new CfnError('CFN_RESPONSE_TRUNCATED', 'the sealed answer broke off', { cause });
      const opened = await throwRefusal(await exchange.open(streamChunks(response.body, broken)));
      const { keyExchange } = exchange;
      void opened.receipt.then(over, over);
      const confidentiality = confidentialityOf(worker, { version, keyExchange, receipt: opened.receipt });
      return await toResponse(opened, { url, redirected: wasRedirected }, confidentiality);
    } catch (error) {
      over();
      throw error;
    }
  }
}

/** Workers that hold, and that are offered for the version. */
const servers = ({ workers }: Trusted, version: OfferedVersion): TrustedWorker[] =>
  workers.filter(({ result }) => version.workers.has(result.workerId));

/** Of each outer request: the path that the function sees is inside the seal, and nothing of the page or its cookies goes along. */
const OUTER: RequestInit = {
  method: 'POST',
  redirect: 'error',
  credentials: 'omit',
  cache: 'no-store',
  referrerPolicy: 'no-referrer',
};
async function tokenField(token: ConfidentialFetchOptions['token']): Promise<Record<string, string>> {
  const text = typeof token === 'function' ? await token() : token;
  return text === undefined ? {} : { 'cfn-authorization': `Bearer ${text}` };
}

/** As `fetch` does, rejects with the signal's reason at once; what is under way ends by itself. */
async function untilAborted<T>(signal: AbortSignal | null, work: Promise<T>): Promise<T> {
  if (signal === null) return work;
  work.catch(() => undefined);
  const { promise, reject } = Promise.withResolvers<never>();
  const abort = (): void => reject(signal.reason);
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([promise, work]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}

/** Bytes where the request's body is there: not every browser, and no HTTP/1.1 there, can stream a request. */
async function outerBody(request: PlainRequest, sealed: AsyncIterable<Uint8Array>): Promise<RequestInit> {
  if (isStream(request)) return { body: toStream(sealed), duplex: 'half' } as RequestInit; // `duplex` is not in the DOM types yet
  const pieces: Uint8Array[] = [];
  for await (const piece of sealed) pieces.push(piece);
  return { body: concatBytes(...pieces) };
}

const mediaType = (response: Response): string | undefined =>
  response.headers.get('content-type')?.split(';', 1)[0]?.trim().toLowerCase();

/** What the gateway said in place of a sealed answer: a hint from outside the boundary, never data of the function. */
async function refusal(response: Response): Promise<CfnError> {
  const problem = fromProblem(await bodyJson(response, PROBLEM_BYTES_MAX));
  return (
    problem ??
    new CfnError('CFN_GATEWAY_UNREACHABLE', `the gateway answered ${response.status} without a sealed answer`)
  );
}

/** What a worker says under seal before any code has run: it has another version by now, or cannot take more. */
const BEFORE_CODE: readonly ErrorCode[] = ['CFN_VERSION_MISMATCH', 'CFN_BUSY'];

/** @throws {CfnError} one of BEFORE_CODE */
async function throwRefusal(opened: OpenedResponse): Promise<OpenedResponse> {
  const problem = opened.headers.some(
    ([name, value]) => name === 'content-type' && value === 'application/problem+json',
  );
  if (!problem || !BEFORE_CODE.some((code) => ERRORS[code].status === opened.status)) return opened;
  const pieces: Uint8Array[] = [];
  for await (const piece of opened.body) pieces.push(piece);
  const { outcome } = (await opened.receipt).receipt; // signed: it tells the worker's refusal from an answer of the function
  if (isErrorCode(outcome) && BEFORE_CODE.includes(outcome))
    throw new CfnError(outcome, 'the worker refused the request before any code has run');
  return {
    ...opened,
    body: (async function* () {
      yield* pieces;
    })(),
  };
}
