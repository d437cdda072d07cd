import { generateKeyPair } from 'jose';
import {
  CONTENT_END,
  concatBytes,
  createRequestOpener,
  decodeRequest,
  encodeContentChunk,
  encodeResponseHead,
  encodeTrailers,
  encodeWorkerKeys,
  generateOhttpKeys,
  HYBRID_KEM,
  sha256Hex,
  signReceipt,
  toBase64url,
  workerId,
  type DecodedRequest,
  type Receipt,
  type WorkerKeys,
} from '../proto/index.ts';
import { nodeSuite } from '../proto/node.ts';

export interface Answer {
  readonly status?: number;
  readonly headers?: [string, string][];
  /** Each piece becomes one sealed chunk. */
  readonly body?: readonly Uint8Array[];
  readonly outcome?: Receipt['outcome'];
  /** Alters the receipt before it is signed. */
  readonly receipt?: (receipt: Receipt) => Receipt;
  /** Signs with the key of another worker. */
  readonly signer?: TestWorker;
  /** What goes before the final chunk, after the content; by default the content terminator. */
  readonly end?: Uint8Array;
  /** What the final chunk holds; by default the trailer section with the receipt. */
  readonly final?: (trailers: Uint8Array) => Uint8Array;
}

export interface TestWorker {
  readonly keys: WorkerKeys;
  readonly workerId: string;
  readonly sign: (receipt: Receipt) => Promise<string>;
  /** Encapsulated keys, in the order they came: what a replay guard compares. */
  readonly seen: Uint8Array[];
  /** Answers a sealed request: the response nonce, then one element for each sealed chunk. */
  serve(sealed: Uint8Array, respond: (request: DecodedRequest) => Answer): Promise<Uint8Array[]>;
}

/** The worker's side of a sealed exchange, in memory, with its real codecs and keys. */
export async function testWorker({ hybrid = true } = {}): Promise<TestWorker> {
  const ohttp = await generateOhttpKeys(1, nodeSuite);
  const both = await generateOhttpKeys(2, nodeSuite, HYBRID_KEM);
  const pair = await generateKeyPair('EdDSA', { crv: 'Ed25519' });
  const publicKey = new Uint8Array(await crypto.subtle.exportKey('raw', pair.publicKey as CryptoKey));
  const keys: WorkerKeys = {
    format: 'cfn/worker-keys/v1',
    tls: { spki: '0'.repeat(64) },
    ohttp: { config: toBase64url(ohttp.config), ...(hybrid && { hybrid: toBase64url(both.config) }) },
    receipt: { publicKey: toBase64url(publicKey) },
    notAfter: '2030-01-01T00:00:00Z',
  };
  const id = await workerId(encodeWorkerKeys(keys));
  const sign = (receipt: Receipt): Promise<string> =>
    signReceipt(receipt, async (data) => new Uint8Array(await crypto.subtle.sign('Ed25519', pair.privateKey, data)));
  const seen: Uint8Array[] = [];

  async function serve(sealed: Uint8Array, respond: (request: DecodedRequest) => Answer): Promise<Uint8Array[]> {
    const opener = createRequestOpener(ohttp, ...(hybrid ? [both] : []));
    const plaintext = concatBytes(...(await opener.push(sealed)), ...(await opener.end()));
    seen.push(opener.encapsulatedKey());
    const request = decodeRequest(plaintext);
    const {
      status = 200,
      headers = [],
      body = [],
      outcome = 'ok',
      receipt = (it) => it,
      signer,
      end = CONTENT_END,
      final = (it) => it,
    } = respond(request);
    const sealer = await opener.createResponseSealer();
    const chunks: Uint8Array[] = [sealer.header, await sealer.seal(encodeResponseHead(status, headers))];
    for (const piece of body) chunks.push(await sealer.seal(encodeContentChunk(piece)));
    chunks.push(await sealer.seal(end));
    const before = concatBytes(...chunks);
    const claims = receipt({
      format: 'cfn/receipt/v1',
      id: '0'.repeat(32),
      issuedAt: '2026-11-23T00:00:00Z',
      worker: id,
      tee: 'simulated',
      evidence: '',
      function: {
        tenant: 'acme',
        name: 'echo',
        version: request.headers.find(([name]) => name === 'cfn-function-version')?.[1] ?? '',
      },
      models: [],
      request: { digest: await sha256Hex(sealed), bytes: sealed.length },
      response: { digest: await sha256Hex(before), bytes: before.length, status },
      outcome,
      usage: { cpuMs: 1, wallMs: 1, engineMs: 0, engineCalls: 0 },
      egress: [],
      wipe: { isolateDisposed: true, sandboxBytesOverwritten: 0, engineBytesOverwritten: 0, agentBytesOverwritten: 0 },
      sequence: 0,
      previous: '',
    });
    const jws = await (signer?.sign ?? sign)(claims);
    chunks.push(await sealer.sealFinal(final(encodeTrailers([['cfn-receipt', jws]]))));
    return chunks;
  }
  return { keys, workerId: id, sign, seen, serve };
}

export async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return concatBytes(...all);
}

export async function* stream(...pieces: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* pieces;
}

/** The code of what a promise rejects with. */
export async function codeOf(run: Promise<unknown>): Promise<string> {
  try {
    await run;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
  return 'no error';
}

/** What a test's `fetch` was asked for. */
export const urlOf = (input: RequestInfo | URL): URL => new URL(input instanceof Request ? input.url : input);
