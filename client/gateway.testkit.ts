import { generateKeyPair } from 'jose';
import {
  callerNonce,
  CfnError,
  encodeWorkerKeys,
  fromHex,
  NO_ENDORSEMENTS,
  signManifest,
  toBase64url,
  toHex,
  toProblem,
  type DecodedRequest,
  type ErrorCode,
} from '../proto/index.ts';
import type { AttestationDocument } from './index.ts';
import { collect, testWorker, urlOf, type Answer, type TestWorker } from './worker.testkit.ts';

/** A gateway of one function, as far as a client sees it. Whoever uses it mocks the verifier. */
export interface TestGateway {
  /** The first of `workers`. */
  worker: TestWorker;
  workers: TestWorker[];
  /** What the document says of a worker's load, by its id. */
  loads: Map<string, { inflight: number; capacity: number }>;
  /** Versions that a worker is for, by its id. */
  versions: Map<string, string[]>;
  documents: number;
  calls: { url: string; headers: Headers; body: Uint8Array; init: RequestInit }[];
  /** What the gateway answers instead of relaying; used once. */
  refuse: ErrorCode[];
  respond: (request: DecodedRequest, worker: TestWorker) => Answer;
  alter: (chunks: Uint8Array[]) => Uint8Array[];
  now: Date;
  leaseMs: number;
  revision: number;
  fetch: typeof globalThis.fetch;
}

const quotedNonce = async (asked: string | null): Promise<string> =>
  asked === null ? '11'.repeat(32) : toHex(await callerNonce(fromHex(asked)));

export async function testGateway(workerCount = 1): Promise<TestGateway> {
  const author = await generateKeyPair('EdDSA', { crv: 'Ed25519' });
  const jwk = (await crypto.subtle.exportKey('jwk', author.publicKey as CryptoKey)) as { x: string };

  async function document(nonce: string): Promise<AttestationDocument> {
    gateway.documents += 1;
    const signed = await signManifest(
      {
        format: 'cfn/function/v1',
        tenant: 'acme',
        name: 'echo',
        compatibilityDate: '2026-11-01',
        code: { digest: '0'.repeat(64), bytes: gateway.revision },
        models: [],
        vars: {},
        limits: { cpuMs: 1, wallMs: 1, memoryMb: 16 },
        egress: { allow: [] },
        caller: { plaintext: false, logs: 'none' },
      },
      author.privateKey,
      jwk,
    );
    return {
      function: { tenant: 'acme', name: 'echo', version: signed.version, manifest: signed.jws },
      models: [],
      workers: gateway.workers.map(({ keys, workerId }) => {
        const load = gateway.loads.get(workerId);
        const versions = gateway.versions.get(workerId);
        return {
          workerId,
          nonce,
          evidence: {
            format: 'cfn/evidence/v1',
            tee: 'simulated',
            nonce: toBase64url(Buffer.from(nonce, 'hex')),
            workerKeys: toBase64url(encodeWorkerKeys(keys)),
            quote: 'AA',
            gpus: [],
            endorsements: NO_ENDORSEMENTS,
          },
          leaseEndsAt: new Date(gateway.now.getTime() + gateway.leaseMs).toISOString(),
          ...(load && { load }),
          ...(versions && { versions }),
        };
      }),
      policy: { name: 'p', digest: '0'.repeat(64) },
    };
  }

  const workers = await Promise.all(Array.from({ length: workerCount }, () => testWorker()));
  const gateway: TestGateway = {
    get worker() {
      return this.workers[0] as TestWorker;
    },
    set worker(worker) {
      this.workers = [worker];
    },
    workers,
    loads: new Map(),
    versions: new Map(),
    documents: 0,
    calls: [],
    refuse: [],
    respond: (request) => ({ body: [request.body] }),
    alter: (chunks) => chunks,
    now: new Date('2026-11-23T00:00:00Z'),
    leaseMs: 60_000,
    revision: 1,
    fetch: async (input, init = {}) => {
      const url = urlOf(input);
      if (url.pathname.endsWith('/.well-known/cfn/attestation'))
        return Response.json(await document(await quotedNonce(url.searchParams.get('nonce'))));
      const body =
        init.body instanceof ReadableStream
          ? await collect(init.body as unknown as AsyncIterable<Uint8Array>)
          : (init.body as Uint8Array);
      const headers = new Headers(init.headers);
      gateway.calls.push({ url: url.href, headers, body, init });
      const worker = gateway.workers.find(({ workerId }) => workerId === headers.get('cfn-worker'));
      const refusal = worker === undefined ? 'CFN_KEY_CONFIG_STALE' : gateway.refuse.shift();
      if (worker === undefined || refusal !== undefined) {
        const error = new CfnError(refusal ?? 'CFN_INTERNAL', 'refused');
        return Response.json(toProblem(error), { status: error.status });
      }
      const chunks = gateway.alter(await worker.serve(body, (request) => gateway.respond(request, worker)));
      return new Response(new Blob(chunks as BlobPart[]).stream(), {
        headers: { 'content-type': 'message/ohttp-chunked-res' },
      });
    },
  };
  return gateway;
}
