import type { AppraisalPolicy, AttestationResult } from '../attestation/verifier/index.ts';
import {
  bodyLimits,
  CfnError,
  ERRORS,
  concatBytes,
  fromProblem,
  OHTTP_REQUEST_TYPE,
  OHTTP_RESPONSE_TYPE,
  type ErrorCode,
  type OhttpSuite,
} from '../proto/index.ts';
import { appraiseDocument, fetchAttestation, type AppraisedDocument } from './attestation.ts';
import { bodyJson, send, streamChunks, toStream } from './http.ts';
import type { Hasher } from './hasher.ts';
import type { OpenedResponse } from './open.ts';
import type { VerifiedReceipt } from './receipt-check.ts';
import { sealRequest, type PlainRequest } from './seal.ts';

export interface ConfidentialFetchOptions {
  /** URL of the gateway. */
  readonly endpoint: string;
  /** `tenant/name` */
  readonly function: string;
  readonly policy: AppraisalPolicy;
  readonly fetch?: typeof globalThis.fetch;
  readonly now?: () => Date;
  /** Pins a function version; any other that the gateway offers is refused. */
  readonly version?: string;
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

/** A Response whose body ends normally only when the answer was whole and its receipt holds. */
export type ConfidentialResponse = Response & {
  /** Resolves once the body was read. */
  readonly receipt: Promise<VerifiedReceipt>;
  /** The worker that the request was sealed to. */
  readonly worker: AttestationResult;
};

export type ConfidentialFetch = (path: string, init?: RequestInit) => Promise<ConfidentialResponse>;

interface Trusted extends AppraisedDocument {
  readonly leaseEndsAtMs: ReadonlyMap<string, number>;
}

/** Refusals of the gateway before any worker saw the request: attesting and sealing anew may help. */
const ATTEST_AGAIN: ReadonlySet<ErrorCode> = new Set([
  'CFN_KEY_CONFIG_STALE',
  'CFN_WORKER_UNAVAILABLE',
  'CFN_VERSION_MISMATCH',
]);
const PROBLEM_BYTES_MAX = 64 * 1024;

/**
 * A `fetch` for one function: appraises the workers, seals each call to one of them, opens the answer and checks its receipt. Never
 * sends plaintext, nor a sealed request to another worker than it was sealed to.
 *
 * @throws {CfnError} when no worker holds under the policy; later the returned function throws what {@link appraiseDocument},
 *   {@link sealRequest} and the gateway say. Errors of the function itself are answers, not exceptions.
 */
export async function confidentialFetch(options: ConfidentialFetchOptions): Promise<ConfidentialFetch> {
  const { endpoint, fetch = globalThis.fetch.bind(globalThis), now = () => new Date() } = options;
  let trusted = await attest();

  async function attest(): Promise<Trusted> {
    const nonce = options.freshEvidence === true ? crypto.getRandomValues(new Uint8Array(32)) : undefined;
    const document = await fetchAttestation({ endpoint, function: options.function, nonce, fetch });
    const appraised = await appraiseDocument(document, { policy: options.policy, now: now(), nonce });
    const { manifest, version } = appraised.manifest;
    if (`${manifest.tenant}/${manifest.name}` !== options.function)
      throw new CfnError('CFN_MANIFEST_ALTERED', `the gateway answered for ${manifest.tenant}/${manifest.name}`);
    if (options.version !== undefined && version !== options.version) {
      throw new CfnError('CFN_VERSION_MISMATCH', `the gateway serves version ${version}, expected ${options.version}`);
    }
    return {
      ...appraised,
      leaseEndsAtMs: new Map(document.workers.map((worker) => [worker.workerId, Date.parse(worker.leaseEndsAt)])),
    };
  }
  const usable = (): AttestationResult[] => {
    const nowMs = now().getTime();
    return trusted.workers.filter(
      ({ workerId, workerKeys }) =>
        nowMs < (trusted.leaseEndsAtMs.get(workerId) ?? 0) && nowMs <= Date.parse(workerKeys.notAfter),
    );
  };
  async function chooseWorker(): Promise<AttestationResult> {
    let workers = usable();
    if (workers.length === 0) {
      trusted = await attest();
      workers = usable();
    }
    const [roll = 0] = crypto.getRandomValues(new Uint32Array(1));
    const worker = workers[roll % workers.length];
    if (worker === undefined) throw new CfnError('CFN_WORKER_UNAVAILABLE', 'the lease of every worker has ended');
    return worker;
  }
  async function attempt(request: PlainRequest, signal: AbortSignal | null): Promise<ConfidentialResponse> {
    const worker = await chooseWorker();
    const { workerKeys, workerId } = worker;
    const { version, manifest } = trusted.manifest;
    const { suite, hasher } = options;
    const sealing = { workerKeys, workerId, version, request, now: now(), suite, hasher };
    const exchange = await sealRequest({ ...sealing, ...bodyLimits(manifest.limits) });
    const body = await outerBody(request, exchange.body);
    const headers = {
      'content-type': OHTTP_REQUEST_TYPE,
      accept: OHTTP_RESPONSE_TYPE,
      incremental: '?1',
      'cfn-worker': workerId,
      ...(manifest.caller.auth === 'token' ? await tokenField(options.token) : {}),
    };
    const url = new URL(`/f/${options.function}/`, endpoint); // the path the function sees is inside the seal
    const response = await send(
      () => fetch(url, { method: 'POST', headers, ...body, signal, redirect: 'error' }),
      signal,
    );
    if (!response.ok || mediaType(response) !== OHTTP_RESPONSE_TYPE) throw await refusal(response);
    const broken = (cause: unknown): CfnError =>
      new CfnError(signal?.aborted === true ? 'CFN_ABORTED' : 'CFN_RESPONSE_TRUNCATED', 'the sealed answer broke off', {
        cause,
      });
    return toResponse(await refuseOldVersion(await exchange.open(streamChunks(response.body, broken))), worker);
  }

  return async (path, init = {}) => {
    const request = await plainRequest(endpoint, path, init);
    const signal = init.signal ?? null;
    try {
      return await attempt(request, signal);
    } catch (error) {
      const again = error instanceof CfnError && ATTEST_AGAIN.has(error.code);
      if (!again || isStream(request)) throw error; // a stream that was read cannot be sealed a second time
      trusted = await attest();
      return attempt(request, signal);
    }
  };
}

async function tokenField(token: ConfidentialFetchOptions['token']): Promise<Record<string, string>> {
  const text = typeof token === 'function' ? await token() : token;
  return text === undefined ? {} : { 'cfn-authorization': `Bearer ${text}` };
}

const isStream = ({ body }: PlainRequest): boolean => body !== undefined && !(body instanceof Uint8Array);

/** The caller's request, its body read by the platform's own rules (form data, blobs, strings). */
async function plainRequest(endpoint: string, path: string, init: RequestInit): Promise<PlainRequest> {
  const base = new URL(endpoint);
  const url = new URL(path.startsWith('/') ? path : `/${path}`, base);
  if (url.host !== base.host) throw new CfnError('CFN_INPUT_INVALID', 'path: expected a path, not a URL');
  const streamed = init.body instanceof ReadableStream ? init.body : undefined;
  const { signal: _signal, body, ...rest } = init;
  const normal = asRequest(url, streamed === undefined && body !== undefined ? { ...rest, body } : rest);
  const bytes = streamed === undefined ? new Uint8Array(await normal.arrayBuffer()) : undefined;
  return {
    method: normal.method,
    authority: url.host,
    path: url.pathname + url.search,
    headers: [...normal.headers],
    ...(streamed !== undefined
      ? { body: streamChunks(streamed as ReadableStream<Uint8Array>) }
      : bytes !== undefined && bytes.length > 0
        ? { body: bytes }
        : {}),
  };
}

function asRequest(url: URL, init: RequestInit): Request {
  try {
    return new Request(url, init);
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', 'method, header fields or body are none that fetch takes', { cause });
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

/**
 * A worker that was given a newer version since we attested says so under seal, before any code has run.
 *
 * @throws {CfnError} `CFN_VERSION_MISMATCH`
 */
async function refuseOldVersion(opened: OpenedResponse): Promise<OpenedResponse> {
  const problem = opened.headers.some(
    ([name, value]) => name === 'content-type' && value === 'application/problem+json',
  );
  if (opened.status !== ERRORS.CFN_VERSION_MISMATCH.status || !problem) return opened;
  const pieces: Uint8Array[] = [];
  for await (const piece of opened.body) pieces.push(piece);
  const { receipt } = await opened.receipt; // its outcome tells the worker's refusal from an answer of the function
  if (receipt.outcome === 'CFN_VERSION_MISMATCH')
    throw new CfnError('CFN_VERSION_MISMATCH', 'the worker serves another version of the function');
  return {
    ...opened,
    body: (async function* () {
      yield* pieces;
    })(),
  };
}

const NULL_BODY_STATUS: ReadonlySet<number> = new Set([204, 205, 304]);

async function toResponse(opened: OpenedResponse, worker: AttestationResult): Promise<ConfidentialResponse> {
  const { status, headers, receipt } = opened;
  let body: ReadableStream<Uint8Array<ArrayBuffer>> | null = toStream(opened.body);
  if (NULL_BODY_STATUS.has(status)) {
    // Response takes no body for these; it is read here, so that the receipt is checked all the same.
    for await (const piece of streamChunks(body)) {
      if (piece.length > 0) throw new CfnError('CFN_RESPONSE_MALFORMED', `an answer with status ${status} has content`);
    }
    body = null;
  }
  return Object.assign(new Response(body, { status, headers }), { receipt, worker });
}
