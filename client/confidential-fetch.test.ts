import { generateKeyPair } from 'jose';
import { beforeEach, expect, test, vi } from 'vitest';
import {
  callerNonce,
  CfnError,
  encodeWorkerKeys,
  fromHex,
  fromUtf8,
  parseWorkerKeys,
  fromBase64url,
  signManifest,
  toBase64url,
  toHex,
  toProblem,
  utf8,
  workerId,
  type DecodedRequest,
  type ErrorCode,
  type Evidence,
  NO_ENDORSEMENTS,
} from '../proto/index.ts';
import type { AppraisalPolicy } from '../attestation/verifier/index.ts';
import { confidentialFetch, type AttestationDocument, type ConfidentialFetchOptions } from './index.ts';
import { toStream } from './http.ts';
import { codeOf, collect, stream, testWorker, urlOf, type Answer, type TestWorker } from './worker.testkit.ts';

// The verifier has its own tests; here every worker whose evidence answers the nonce holds.
vi.mock('../attestation/verifier/index.ts', () => ({
  appraise: async (evidence: Evidence, { nonce }: { nonce: Uint8Array }): Promise<unknown> => {
    if (toBase64url(nonce) !== evidence.nonce) throw new CfnError('CFN_NONCE_MISMATCH', 'nonce');
    const bytes = fromBase64url(evidence.workerKeys);
    return { workerId: await workerId(bytes), workerKeys: parseWorkerKeys(bytes) };
  },
}));

/** A gateway of one function and one worker, as far as a client sees it. */
interface TestGateway {
  worker: TestWorker;
  documents: number;
  calls: { url: string; headers: Headers; body: Uint8Array }[];
  /** What the gateway answers instead of relaying; used once. */
  refuse: ErrorCode[];
  respond: (request: DecodedRequest) => Answer;
  alter: (chunks: Uint8Array[]) => Uint8Array[];
  now: Date;
  leaseMs: number;
  revision: number;
  fetch: typeof globalThis.fetch;
}
let gateway: TestGateway;

const quotedNonce = async (asked: string | null): Promise<string> =>
  asked === null ? '11'.repeat(32) : toHex(await callerNonce(fromHex(asked)));

beforeEach(async () => {
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
    const nonceBytes = toBase64url(Buffer.from(nonce, 'hex'));
    const { keys, workerId: id } = gateway.worker;
    return {
      function: { tenant: 'acme', name: 'echo', version: signed.version, manifest: signed.jws },
      models: [],
      workers: [
        {
          workerId: id,
          nonce,
          evidence: {
            format: 'cfn/evidence/v1',
            tee: 'simulated',
            nonce: nonceBytes,
            workerKeys: toBase64url(encodeWorkerKeys(keys)),
            quote: 'AA',
            gpus: [],
            endorsements: NO_ENDORSEMENTS,
          },
          leaseEndsAt: new Date(gateway.now.getTime() + gateway.leaseMs).toISOString(),
        },
      ],
      policy: { name: 'p', digest: '0'.repeat(64) },
    };
  }
  gateway = {
    worker: await testWorker(),
    documents: 0,
    calls: [],
    refuse: [],
    respond: (request) => ({ body: [request.body] }),
    alter: (chunks) => chunks,
    now: new Date('2026-11-23T00:00:00Z'),
    leaseMs: 60_000,
    revision: 1,
    fetch: async (input, init) => {
      const url = urlOf(input);
      if (url.pathname === '/.well-known/cfn/attestation')
        return Response.json(await document(await quotedNonce(url.searchParams.get('nonce'))));
      const body =
        init?.body instanceof ReadableStream
          ? await collect(init.body as unknown as AsyncIterable<Uint8Array>)
          : (init?.body as Uint8Array);
      const headers = new Headers(init?.headers);
      gateway.calls.push({ url: url.href, headers, body });
      const refusal =
        headers.get('cfn-worker') === gateway.worker.workerId ? gateway.refuse.shift() : 'CFN_KEY_CONFIG_STALE';
      if (refusal !== undefined) {
        const error = new CfnError(refusal, 'refused');
        return Response.json(toProblem(error), { status: error.status });
      }
      const chunks = gateway.alter(await gateway.worker.serve(body, gateway.respond));
      return new Response(new Blob(chunks as BlobPart[]).stream(), {
        headers: { 'content-type': 'message/ohttp-chunked-res' },
      });
    },
  };
});
const open = (more: Partial<ConfidentialFetchOptions> = {}): ReturnType<typeof confidentialFetch> =>
  confidentialFetch({
    endpoint: 'https://gw.example',
    function: 'acme/echo',
    policy: {} as AppraisalPolicy,
    fetch: (...args) => gateway.fetch(...args),
    now: () => gateway.now,
    ...more,
  });

test('a call, its answer and its receipt; the gateway sees neither path nor body', async () => {
  const call = await open();
  const seen: DecodedRequest[] = [];
  gateway.respond = (request) => {
    seen.push(request);
    return { status: 201, headers: [['content-type', 'application/json']], body: [utf8('{"a":1}')] };
  };
  const response = await call('/secret-path?q=1', { method: 'POST', headers: { 'X-Mine': '1' }, body: 'secret body' });
  expect(response.status).toBe(201);
  expect(await response.json()).toEqual({ a: 1 });
  expect((await response.receipt).receipt.worker).toBe(gateway.worker.workerId);
  expect(response.worker.workerId).toBe(gateway.worker.workerId);
  expect(seen[0]).toMatchObject({ method: 'POST', authority: 'gw.example', path: '/secret-path?q=1' });
  expect(seen[0]?.headers).toContainEqual(['x-mine', '1']);
  expect(fromUtf8(seen[0]?.body ?? new Uint8Array(0))).toBe('secret body');
  const [sent] = gateway.calls;
  expect(sent?.url).toBe('https://gw.example/f/acme/echo/');
  expect(Object.fromEntries(sent?.headers ?? [])).toEqual({
    'content-type': 'message/ohttp-chunked-req',
    accept: 'message/ohttp-chunked-res',
    incremental: '?1',
    'cfn-worker': gateway.worker.workerId,
  });
  expect(Buffer.from(sent?.body ?? []).toString('latin1')).not.toContain('secret');
});

test('attests once per lease, and again after it', async () => {
  const call = await open();
  await (await call('/')).text();
  await (await call('/')).text();
  expect(gateway.documents).toBe(1);
  gateway.now = new Date(gateway.now.getTime() + 60_000);
  await (await call('/')).text();
  expect(gateway.documents).toBe(2);
  gateway.leaseMs = 0;
  gateway.now = new Date(gateway.now.getTime() + 60_000);
  expect(await codeOf(call('/'))).toBe('CFN_WORKER_UNAVAILABLE');
});

test('a worker with new keys: attests and seals anew, once', async () => {
  const call = await open();
  gateway.worker = await testWorker();
  const response = await call('/', { method: 'POST', body: 'x' });
  expect(await response.text()).toBe('x');
  expect(response.worker.workerId).toBe(gateway.worker.workerId);
  expect(gateway.documents).toBe(2);
  const [first, second] = gateway.calls;
  expect(toHex(first?.body ?? new Uint8Array(0))).not.toBe(toHex(second?.body ?? new Uint8Array(0)));

  gateway.refuse = ['CFN_WORKER_UNAVAILABLE', 'CFN_WORKER_UNAVAILABLE'];
  expect(await codeOf(call('/'))).toBe('CFN_WORKER_UNAVAILABLE');
  gateway.refuse = ['CFN_BUSY'];
  expect(await codeOf(call('/'))).toBe('CFN_BUSY');
  expect(gateway.calls).toHaveLength(5);
});

test('a streamed body is sent, but not a second time', async () => {
  const call = await open();
  const body = (): RequestInit => ({ method: 'POST', body: toStream(stream(utf8('a'), utf8('b'))) });
  expect(await (await call('/', body())).text()).toBe('ab');
  gateway.refuse = ['CFN_WORKER_UNAVAILABLE'];
  expect(await codeOf(call('/', body()))).toBe('CFN_WORKER_UNAVAILABLE');
});

test('a new version is found by the worker’s refusal under seal; a pinned one is not given up', async () => {
  const refuseOld =
    (old: string) =>
    (request: DecodedRequest): Answer =>
      request.headers.some(([name, value]) => name === 'cfn-function-version' && value === old)
        ? {
            status: 409,
            headers: [['content-type', 'application/problem+json']],
            body: [utf8('{}')],
            outcome: 'CFN_VERSION_MISMATCH',
          }
        : { body: [utf8('new')] };
  const call = await open();
  const version = await versionOf(call);
  const pinned = await open({ version });
  gateway.revision = 2;
  gateway.respond = refuseOld(version);
  expect(await (await call('/')).text()).toBe('new');
  expect(await codeOf(pinned('/'))).toBe('CFN_VERSION_MISMATCH');
});

test('a function may answer 409 with a problem of its own', async () => {
  const call = await open();
  gateway.respond = () => ({
    status: 409,
    headers: [['content-type', 'application/problem+json']],
    body: [utf8('{"mine":1}')],
  });
  const response = await call('/');
  expect(response.status).toBe(409);
  expect(await response.json()).toEqual({ mine: 1 });
});

test('cut and altered answers, and forged receipts, fail the body and the receipt', async () => {
  const call = await open();
  const failing = async (): Promise<[string, string]> => {
    const response = await call('/', { method: 'POST', body: 'x' });
    const body = await codeOf(response.text());
    return [body, await codeOf(response.receipt)];
  };
  gateway.alter = (chunks) => chunks.slice(0, -1);
  expect(await failing()).toEqual(['CFN_RESPONSE_TRUNCATED', 'CFN_RESPONSE_TRUNCATED']);
  gateway.alter = (chunks) => chunks.toSpliced(2, 1);
  expect(await failing()).toEqual(['CFN_RESPONSE_MALFORMED', 'CFN_RESPONSE_MALFORMED']);
  gateway.alter = (chunks) => chunks;
  gateway.respond = () => ({ receipt: (it) => ({ ...it, worker: '0'.repeat(64) }) });
  expect(await failing()).toEqual(['CFN_RECEIPT_INVALID', 'CFN_RECEIPT_INVALID']);
});

test('an answer without a body is checked too', async () => {
  const call = await open();
  gateway.respond = () => ({ status: 204 });
  const response = await call('/');
  expect([response.status, response.body]).toEqual([204, null]);
  expect((await response.receipt).receipt.response.status).toBe(204);
  gateway.respond = () => ({ status: 204, body: [utf8('x')] });
  expect(await codeOf(call('/'))).toBe('CFN_RESPONSE_MALFORMED');
});

test('an answer that is not sealed is never taken for one of the function', async () => {
  const call = await open();
  const relayed = gateway.fetch;
  gateway.fetch = async (input, init) =>
    urlOf(input).pathname.includes('/f/') ? Response.json({ forged: true }) : relayed(input, init);
  expect(await codeOf(call('/'))).toBe('CFN_GATEWAY_UNREACHABLE');
});

test('a broken network, an abort, and what is no request', async () => {
  const call = await open();
  const relayed = gateway.fetch;
  gateway.fetch = () => Promise.reject(new TypeError('fetch failed'));
  expect(await codeOf(call('/'))).toBe('CFN_GATEWAY_UNREACHABLE');
  expect(await codeOf(call('/', { signal: AbortSignal.abort() }))).toBe('CFN_ABORTED');
  gateway.fetch = async (input, init) => {
    const response = await relayed(input, init);
    const reader = response.body?.getReader();
    const first = await reader?.read();
    const broken = new ReadableStream({
      start: (controller) => controller.enqueue(first?.value?.subarray(0, 60)),
      pull: () => Promise.reject(new TypeError('terminated')),
    });
    return new Response(broken, response);
  };
  expect(await codeOf(call('/').then((it) => it.text()))).toBe('CFN_RESPONSE_TRUNCATED');
  expect(await codeOf(call('//evil.example/'))).toBe('CFN_INPUT_INVALID');
  expect(await codeOf(call('/', { method: 'GET', body: 'x' }))).toBe('CFN_INPUT_INVALID');
});

test('fresh evidence answers a nonce of ours, and no other document will do', async () => {
  const call = await open({ freshEvidence: true });
  expect(await (await call('/', { method: 'POST', body: 'x' })).text()).toBe('x');
  const relayed = gateway.fetch;
  const old = await relayed('https://gw.example/.well-known/cfn/attestation').then((it) => it.text());
  gateway.fetch = async (input, init) =>
    urlOf(input).pathname.includes('/.well-known/') ? new Response(old) : relayed(input, init);
  expect(await codeOf(open({ freshEvidence: true }))).toBe('CFN_NONCE_MISMATCH');
  expect(await codeOf(open({ version: '0'.repeat(64) }))).toBe('CFN_VERSION_MISMATCH');
  expect(await codeOf(open({ function: 'acme/other' }))).toBe('CFN_MANIFEST_ALTERED');
});

async function versionOf(call: Awaited<ReturnType<typeof open>>): Promise<string> {
  const response = await call('/');
  await response.text();
  return (await response.receipt).receipt.function.version;
}
