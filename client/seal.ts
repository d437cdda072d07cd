import {
  CONTENT_END,
  CfnError,
  HYBRID_KEM,
  OHTTP_CHUNK_BYTES,
  REQUEST_BYTES_MAX,
  RESPONSE_BYTES_MAX,
  concatBytes,
  createRequestSealer,
  encodeContentChunk,
  encodeRequest,
  encodeRequestHead,
  encodeTrailers,
  encodeWorkerKeys,
  fromBase64url,
  workerId,
  type KeyExchange,
  type OhttpSuite,
  type RequestSealer,
  type WorkerKeys,
} from '../proto/index.ts';
import { countingHasher, webCryptoHasher, type Hasher } from './hasher.ts';
import { openExchange, type OpenedResponse } from './open.ts';
import { sealedFields } from './request-fields.ts';

export type Field = readonly [name: string, value: string];

export interface PlainRequest {
  readonly method: string;
  /** Host of the gateway. */
  readonly authority: string;
  /** The part of the URL after `/f/{tenant}/{function}`, with the query. */
  readonly path: string;
  readonly headers: readonly Field[];
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>;
  /** Length of a streamed body, where it is known; one of another length is refused. */
  readonly bodyBytes?: number;
}

export interface SealOptions {
  /** From an {@link AttestationResult}: nothing else says who can open what is sealed here. */
  readonly workerKeys: WorkerKeys;
  /** The function version that alone may open the request. */
  readonly version: string;
  readonly request: PlainRequest;
  readonly now: Date;
  /** Default: the digest of `workerKeys` as {@link encodeWorkerKeys} writes it. */
  readonly workerId?: string | undefined;
  /** Another implementation of the suite; in Node, `nodeSuite` of `proto/node.ts` is several times faster. */
  readonly suite?: OhttpSuite | undefined;
  /** Largest bodies, in bytes, as the function's manifest has them; default REQUEST_BYTES_MAX and RESPONSE_BYTES_MAX. */
  readonly requestBytesMax?: number | undefined;
  readonly responseBytesMax?: number | undefined;
  /** An incremental SHA-256; without it sealed bytes are kept until the receipt has come. */
  readonly hasher?: (() => Hasher) | undefined;
}

export interface SealedExchange {
  /** `X25519` alone says that the worker offers no hybrid, or this suite has none. */
  readonly keyExchange: KeyExchange;
  /** The sealed request, to be sent as it comes. May be read once: a second sending is a replay. */
  readonly body: AsyncIterable<Uint8Array>;
  /** Opens the sealed answer to it; resolves with the head. May be called once. */
  open(response: AsyncIterable<Uint8Array>): Promise<OpenedResponse>;
}

/** Sealed in one go, so that a large body is not one promise per chunk. */
const SEAL_BYTES = 16 * OHTTP_CHUNK_BYTES;

/**
 * Seals a request to one attested worker and one function version: chunked Oblivious HTTP around binary HTTP.
 *
 * @throws {CfnError} `CFN_REQUEST_MALFORMED` for a method, path or field that HTTP cannot carry; `CFN_BODY_TOO_LARGE`
 */
export async function sealRequest(options: SealOptions): Promise<SealedExchange> {
  const { workerKeys, version, request, now, suite, hasher = webCryptoHasher } = options;
  const { requestBytesMax = REQUEST_BYTES_MAX, responseBytesMax = RESPONSE_BYTES_MAX } = options;
  const sealer = await createRequestSealer(preferredConfig(workerKeys, suite), suite);
  const message = encodeMessage(request, version, now, requestBytesMax); // here, so that what is malformed fails before anything is sent
  const hash = countingHasher(hasher());
  const sent: { request?: Awaited<ReturnType<typeof hash.finish>> } = {};
  let started = false;
  let opening = false;

  async function* body(): AsyncGenerator<Uint8Array> {
    if (started) throw new CfnError('CFN_INTERNAL', 'a sealed request is sent once');
    started = true;
    for await (const piece of sealMessage(sealer, message)) {
      hash.update(piece);
      yield piece;
    }
    sent.request = await hash.finish();
  }
  return {
    keyExchange: sealer.keyExchange,
    body: { [Symbol.asyncIterator]: body },
    async open(response) {
      if (opening) throw new CfnError('CFN_INTERNAL', 'a sealed answer is opened once');
      opening = true;
      const expected = {
        workerKeys,
        workerId: options.workerId ?? (await workerId(encodeWorkerKeys(workerKeys))),
        version,
      };
      return openExchange({
        sealer,
        response,
        expected,
        responseBytesMax,
        sentRequest: () => sent.request,
        hash: countingHasher(hasher()),
      });
    },
  };
}

/** The hybrid where both sides have it. The evidence binds the offer, so nobody in between can take it back. */
function preferredConfig({ ohttp }: WorkerKeys, suite: OhttpSuite | undefined): Uint8Array {
  const hybrid = suite?.hpke.has(HYBRID_KEM) === false ? undefined : ohttp.hybrid;
  return fromBase64url(hybrid ?? ohttp.config, 'CFN_EVIDENCE_MALFORMED');
}

type Message = Uint8Array | AsyncIterable<Uint8Array>;

/** Binary HTTP: known-length for a body that is there, else indeterminate-length. */
function encodeMessage(
  { body = new Uint8Array(0), bodyBytes, ...request }: PlainRequest,
  version: string,
  now: Date,
  bytesMax: number,
): Message {
  const known = body instanceof Uint8Array;
  const length = known ? body.length : bodyBytes;
  checkBodyBytes(length ?? 0, bytesMax);
  const headers = sealedFields(request.headers, version, now, length === 0 ? undefined : length);
  const head = { ...request, scheme: 'https', headers };
  return known ? encodeRequest({ ...head, body }) : streamMessage(encodeRequestHead(head), body, length, bytesMax);
}

async function* streamMessage(
  head: Uint8Array,
  body: AsyncIterable<Uint8Array>,
  length: number | undefined,
  bytesMax: number,
): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  yield head;
  for await (const piece of body) {
    bytes += piece.length;
    checkBodyBytes(bytes, bytesMax);
    yield encodeContentChunk(piece);
  }
  if (length !== undefined && bytes !== length)
    throw new CfnError('CFN_REQUEST_MALFORMED', `the body has ${bytes} bytes, ${length} were announced`);
  yield concatBytes(CONTENT_END, encodeTrailers([], 'CFN_REQUEST_MALFORMED'));
}

function checkBodyBytes(bytes: number, bytesMax: number): void {
  if (bytes > bytesMax) throw new CfnError('CFN_BODY_TOO_LARGE', `a request body has at most ${bytesMax} bytes`);
}

async function* sealMessage(sealer: RequestSealer, message: Message): AsyncGenerator<Uint8Array> {
  if (message instanceof Uint8Array && message.length <= OHTTP_CHUNK_BYTES) {
    yield concatBytes(sealer.header, await sealer.sealFinal(message)); // the usual case: one piece
    return;
  }
  if (message instanceof Uint8Array) {
    yield sealer.header;
    // One byte at least is kept back, so that the final chunk is a full one and never an extra one.
    const sealed = Math.floor((message.length - 1) / OHTTP_CHUNK_BYTES) * OHTTP_CHUNK_BYTES;
    for (const piece of slices(message.subarray(0, sealed))) yield await sealer.seal(piece);
    yield await sealer.sealFinal(message.subarray(sealed));
    return;
  }
  // Each piece as it comes: somebody at the other end may wait for it.
  let header: Uint8Array = sealer.header;
  for await (const piece of message) {
    const sealed = await sealer.seal(piece);
    yield header.length === 0 ? sealed : concatBytes(header, sealed);
    header = new Uint8Array(0);
  }
  yield await sealer.sealFinal(new Uint8Array(0));
}

function* slices(message: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < message.length; at += SEAL_BYTES) yield message.subarray(at, at + SEAL_BYTES);
}
