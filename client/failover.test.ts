import { beforeEach, expect, test, vi } from 'vitest';
import {
  CfnError,
  fromBase64url,
  parseWorkerKeys,
  toBase64url,
  toHex,
  utf8,
  workerId,
  type Evidence,
} from '../proto/index.ts';
import type { AppraisalPolicy, AttestationResult } from '../attestation/verifier/index.ts';
import { chooseWorker, ownLoad } from './choose-worker.ts';
import { testGateway, type TestGateway } from './gateway.testkit.ts';
import { confidentialFetch, type ConfidentialFetch } from './index.ts';
import { toStream } from './http.ts';
import type { TrustedWorker } from './trusted-workers.ts';
import { codeOf, stream, urlOf, type Answer } from './worker.testkit.ts';

// The verifier has its own tests; here every worker whose evidence answers the nonce holds.
vi.mock('../attestation/verifier/index.ts', () => ({
  parseWorkerPolicy: () => undefined,
  appraise: async (evidence: Evidence, { nonce }: { nonce: Uint8Array }): Promise<unknown> => {
    if (toBase64url(nonce) !== evidence.nonce) throw new CfnError('CFN_NONCE_MISMATCH', 'nonce');
    const bytes = fromBase64url(evidence.workerKeys);
    return { workerId: await workerId(bytes), workerKeys: parseWorkerKeys(bytes), findings: [] };
  },
}));

let gateway: TestGateway;
beforeEach(async () => {
  gateway = await testGateway(3);
});
const open = (): Promise<ConfidentialFetch> =>
  confidentialFetch({
    endpoint: 'https://gw.example',
    function: 'acme/echo',
    policy: {} as AppraisalPolicy,
    fetch: (...args) => gateway.fetch(...args),
    now: () => gateway.now,
  });
const post = { method: 'POST', body: 'x' };
const workersTried = (): (string | null)[] => gateway.calls.map(({ headers }) => headers.get('cfn-worker'));
const later = (ms: number): void => void (gateway.now = new Date(gateway.now.getTime() + ms));

test('INV-39 a busy worker: sealed anew to another one, never the same bytes', async () => {
  const call = await open();
  gateway.refuse = ['CFN_BUSY', 'CFN_BUSY'];
  expect(await (await call('/', post)).text()).toBe('x');
  expect(new Set(workersTried()).size).toBe(3);
  expect(new Set(gateway.calls.map(({ body }) => toHex(body))).size).toBe(3);
  expect(new Set(gateway.workers.flatMap(({ seen }) => seen.map(toHex))).size).toBe(1);
  expect(gateway.documents).toBe(1);
});

test('not without end', async () => {
  const call = await open();
  gateway.refuse = Array.from({ length: 9 }, () => 'CFN_BUSY' as const);
  expect(await codeOf(call('/', post))).toBe('CFN_BUSY');
  expect(gateway.calls).toHaveLength(3);
});

test('a worker that has left: attests again, then goes to one that is there', async () => {
  const call = await open();
  gateway.workers = gateway.workers.slice(0, 1);
  for (let i = 0; i < 5; i++) expect(await (await call('/', post)).text()).toBe('x');
  expect(gateway.documents).toBeLessThanOrEqual(2);
  expect(gateway.worker.seen).toHaveLength(5);
});

test('a request that may have run is repeated only where that does not matter', async () => {
  const call = await open();
  for (const code of ['CFN_WORKER_LOST', 'CFN_GATEWAY_UNREACHABLE'] as const) {
    gateway.refuse = [code];
    expect(await codeOf(call('/', post))).toBe(code);
    gateway.refuse = [code];
    expect(await (await call('/', { ...post, method: 'PUT' })).text()).toBe('x');
    gateway.refuse = [code];
    expect(await (await call('/', { ...post, headers: { 'Idempotency-Key': '"1"' } })).text()).toBe('x');
  }
  gateway.refuse = ['CFN_DEADLINE'];
  expect(await codeOf(call('/'))).toBe('CFN_DEADLINE');
});

test('a network that breaks off before the head of the answer', async () => {
  const call = await open();
  const relayed = gateway.fetch;
  let broken = 1;
  gateway.fetch = async (input, init) => {
    if (urlOf(input).pathname.startsWith('/f/') && broken-- > 0) {
      await relayed(input, init);
      throw new TypeError('terminated');
    }
    return relayed(input, init);
  };
  expect(await (await call('/')).text()).toBe('');
  broken = 1;
  expect(await codeOf(call('/', post))).toBe('CFN_GATEWAY_UNREACHABLE');
});

test('a stream is not sent a second time', async () => {
  const call = await open();
  gateway.refuse = ['CFN_BUSY'];
  expect(await codeOf(call('/', { method: 'POST', body: toStream(stream(utf8('x'))) }))).toBe('CFN_BUSY');
  expect(gateway.calls).toHaveLength(1);
});

test('a refusal under seal counts only with a receipt that says so', async () => {
  const call = await open();
  const busy: Answer = { status: 503, headers: [['content-type', 'application/problem+json']], body: [utf8('{}')] };
  const first: string[] = [];
  gateway.respond = (_, worker) => {
    first.push(worker.workerId);
    return first.length === 1 ? { ...busy, outcome: 'CFN_BUSY' } : {};
  };
  expect((await call('/', post)).status).toBe(200);
  expect(new Set(first).size).toBe(2);
  gateway.respond = () => busy; // an answer of the function
  expect((await call('/', post)).status).toBe(503);
});

test('callers that come at once attest once, also when all proofs have ended', async () => {
  const call = await open();
  later(60_000);
  await Promise.all(Array.from({ length: 8 }, async () => (await call('/')).text()));
  expect(gateway.documents).toBe(2);
});

test('attests again in the background before the proof ends; a failure of that is not the caller’s', async () => {
  const call = await open();
  later(39_000);
  await (await call('/')).text();
  expect(gateway.documents).toBe(1);
  later(2_000);
  const relayed = gateway.fetch;
  let failed = 0;
  gateway.fetch = async (input, init) => {
    if (!urlOf(input).pathname.includes('/.well-known/')) return relayed(input, init);
    failed++;
    throw new TypeError('fetch failed');
  };
  expect((await call('/')).status).toBe(200);
  await expect.poll(() => failed, { timeout: 10_000 }).toBe(1);
  gateway.fetch = relayed;
  await expect.poll(async () => ((await call('/')).status, gateway.documents), { timeout: 10_000 }).toBe(2);
  later(30_000); // past the first proof, within the second
  await (await call('/')).text();
  expect(gateway.documents).toBe(2);
});

test('a worker that is for another of the versions in a split gets nothing of this one', async () => {
  const [first, ...others] = gateway.workers;
  for (const { workerId: id } of others) gateway.versions.set(id, ['b'.repeat(64)]);
  const call = await open();
  for (let i = 0; i < 5; i++) await (await call('/')).text();
  expect(new Set(workersTried())).toEqual(new Set([first?.workerId]));
  const versions = gateway.calls.map(({ headers }) => headers.get('cfn-function-version'));
  expect(new Set(versions)).toEqual(new Set([(await call('/')).confidentiality.version]));
});

test('the less loaded of two, by hint and by our own requests under way', async () => {
  const [a, b] = gateway.workers;
  gateway.workers = [a, b] as never;
  gateway.loads.set(a?.workerId ?? '', { inflight: 90, capacity: 100 });
  gateway.loads.set(b?.workerId ?? '', { inflight: 5, capacity: 10 });
  const call = await open();
  for (let i = 0; i < 4; i++) await (await call('/')).text();
  expect(new Set(workersTried())).toEqual(new Set([b?.workerId]));

  const worker = (id: string, load?: TrustedWorker['load']): TrustedWorker => ({
    result: { workerId: id } as AttestationResult,
    provenUntilMs: 0,
    load,
  });
  const own = ownLoad();
  const idle = [worker('1'), worker('2')];
  const done = own.begin('1');
  for (const roll of [0, 0.6, 0.99]) expect(chooseWorker(idle, own, () => roll)?.result.workerId).toBe('2');
  done();
  done();
  expect(own.of('1')).toBe(0);
  expect(chooseWorker(idle, own, () => 0)?.result.workerId).toBe('1');
  expect(chooseWorker([], own)).toBeUndefined();
});
