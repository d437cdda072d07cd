import { appraiseEar } from '../attestation/verifier/index.ts';
import { request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { confidentialFetch, sealRequest } from '../client/index.ts';
import {
  callerNonce,
  fromHex,
  REQUEST_BYTES_MAX,
  toHex,
  utf8,
  verifyReceipt,
  type DecodedRequest,
  type Evidence,
  type SignedManifest,
} from '../proto/index.ts';
import { codeOf, openHouse, signedFunction, type House } from './testkit.ts';
import type { Answer, ThrowawayWorker } from './worker.testkit.ts';

let house: House;
let worker: ThrowawayWorker;
let echo: SignedManifest;

beforeAll(async () => {
  house = await openHouse();
  worker = await house.worker({ run });
  const token = await house.tenant('acme');
  echo = await signedFunction();
  expect(
    (await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } })).status,
  ).toBe(201);
  expect((await house.deploy(token, echo)).status).toBe(201);
  expect(
    (
      await house.deploy(
        token,
        await signedFunction({ name: 'sealed-only', caller: { plaintext: false, logs: 'none' } }),
      )
    ).status,
  ).toBe(201);
});
afterAll(async () => {
  worker.kill();
  await house.gateway.stop();
});

/** The function of these tests. */
async function run({ method, path, headers, body }: DecodedRequest, running: ThrowawayWorker): Promise<Answer> {
  if (path.startsWith('/head')) {
    return {
      status: 201,
      headers: [
        ['x-path', path],
        ['x-method', method],
        ['set-cookie', 'a=1'],
        ['set-cookie', 'b=2'],
        ['connection', 'x-secret'],
        ['x-secret', '1'],
        ['cfn-tee', 'tdx'],
        ['content-length', '9999'],
      ],
      body: [utf8(JSON.stringify(headers))],
    };
  }
  if (path === '/slow') {
    await sleep(400);
    return { status: 200, body: [utf8('late')] };
  }
  if (path === '/stream') return { status: 200, body: slowly() };
  if (path === '/die') return { status: 200, body: dying(running) };
  if (path === '/bad-header') return { status: 200, headers: [['x-a', 'ok']], body: [utf8('x'.repeat(100_000))] };
  return { status: 200, headers: [['content-type', 'text/plain']], body: [body] };
}
async function* slowly(): AsyncIterable<Uint8Array> {
  for (const part of ['one ', 'two ', 'three']) {
    yield utf8(part);
    await sleep(100);
  }
}
async function* dying(running: ThrowawayWorker): AsyncIterable<Uint8Array> {
  yield utf8('a beginning');
  await sleep(100);
  running.kill();
  await sleep(50);
}

const sealedFetch = (path: string, init?: RequestInit): Promise<Response> => sealedTo('acme/echo', path, init);
async function sealedTo(name: string, path: string, init?: RequestInit): Promise<Response> {
  const call = await confidentialFetch({ endpoint: house.gateway.url, function: name, policy: house.policy });
  return (await call(path, init as never)) as unknown as Response;
}

describe('INV-37: a function that demands its callers’ tokens', () => {
  const caller = { plaintext: true, logs: 'none', auth: 'token' } as const;
  const keys: Record<string, string> = {};
  beforeAll(async () => {
    const acme = await house.tenant('acme');
    await house.tenant('other');
    expect((await house.deploy(acme, await signedFunction({ name: 'private', caller }))).status).toBe(201);
    for (const [name, body] of Object.entries({
      owner: { role: 'owner', tenant: 'acme' },
      invoker: { role: 'invoker', tenant: 'acme' },
      viewer: { role: 'viewer', tenant: 'acme' },
      other: { role: 'owner', tenant: 'other' },
      operator: { role: 'operator' },
      worker: { role: 'worker' },
    })) {
      const reply = await house.call('POST', '/v1/keys', { token: house.operator, body: { name, ...body } });
      keys[name] = ((await reply.json()) as { key: string }).key;
    }
  });
  const sealedAs = async (token: string | (() => string) | undefined): Promise<Response> => {
    const options = { endpoint: house.gateway.url, function: 'acme/private', policy: house.policy };
    const call = await confidentialFetch(token === undefined ? options : { ...options, token });
    return (await call('/head', { headers: { authorization: 'Bearer for-the-function' } })) as unknown as Response;
  };

  test.each([
    ['nobody', '401 CFN_TOKEN_INVALID'],
    ['viewer', '403 CFN_TOKEN_SCOPE'],
    ['other', '403 CFN_TOKEN_SCOPE'],
    ['operator', '403 CFN_TOKEN_SCOPE'],
    ['worker', '403 CFN_TOKEN_SCOPE'],
  ])('refuses %s, sealed and open', async (who, refusal) => {
    const ran = worker.invocations.length;
    expect(await codeOf(await house.call('POST', '/f/acme/private/', { token: keys[who] }))).toBe(refusal);
    await expect(sealedAs(keys[who])).rejects.toMatchObject({ code: refusal.slice(4) });
    expect(worker.invocations.length).toBe(ran);
  });

  test.each(['owner', 'invoker'])('takes its %s, sealed and open', async (who) => {
    expect((await house.call('POST', '/f/acme/private/', { token: keys[who], body: 'x' })).status).toBe(200);
    expect((await sealedAs(keys[who])).status).toBe(201);
    expect((await sealedAs(() => keys[who] ?? '')).status).toBe(201);
  });

  test('never sees the token; its own authorization it sees', async () => {
    const seen = async (headers: Record<string, string>, token?: string) =>
      Object.fromEntries(
        (await (await house.call('GET', '/f/acme/private/head', { headers, token })).json()) as [string, string][],
      );
    const token = keys['invoker'] ?? '';
    expect(await seen({}, token)).not.toHaveProperty('authorization');
    const both = await seen({ 'cfn-authorization': `Bearer ${token}`, authorization: 'Bearer mine' });
    expect(both).toMatchObject({ authorization: 'Bearer mine' });
    expect(JSON.stringify(both)).not.toContain(token);
    const sealed = Object.fromEntries((await (await sealedAs(token)).json()) as [string, string][]);
    expect(sealed).toMatchObject({ authorization: 'Bearer for-the-function' });
    expect(JSON.stringify(sealed)).not.toContain(token);
  });

  test('and one that does not gets `authorization` as it came, whatever it is', async () => {
    const reply = await house.call('GET', '/f/acme/echo/head', { headers: { authorization: 'Basic x' } });
    expect(Object.fromEntries((await reply.json()) as [string, string][])).toMatchObject({ authorization: 'Basic x' });
  });

  test('the SDK sends a token to no function that demands none', async () => {
    const sent: Headers[] = [];
    const call = await confidentialFetch({
      endpoint: house.gateway.url,
      function: 'acme/echo',
      policy: house.policy,
      token: 'cfn_secret',
      fetch: (input, init) => {
        sent.push(new Headers(init?.headers));
        return fetch(input, init);
      },
    });
    await call('/', { method: 'POST', body: 'x' });
    expect(sent.length).toBeGreaterThan(1);
    expect(sent.filter((headers) => headers.has('cfn-authorization'))).toEqual([]);
  });
});

describe('open mode', () => {
  test('answers, and says that the gateway saw it', async () => {
    const reply = await house.call('POST', '/f/acme/echo/', { body: 'hello' });
    expect(await reply.text()).toBe('hello');
    expect(Object.fromEntries(reply.headers)).toMatchObject({
      'cfn-confidentiality': 'gateway-visible',
      'cfn-tee': 'simulated',
      'cfn-function-version': echo.version,
      'cfn-request-id': expect.stringMatching(/^[0-9a-f]{32}$/),
      'content-type': 'text/plain',
    });
  });

  test('carries method, path, query and fields; framing and cfn- fields are its own', async () => {
    const reply = await house.call('DELETE', '/f/acme/echo/head/a%20b?x=1&y=%2F', {
      headers: { 'x-mine': 'yes', 'cfn-tee': 'tdx', 'cfn-function-version': 'f'.repeat(64) },
    });
    expect(reply.status).toBe(201);
    expect(reply.headers.get('x-path')).toBe('/head/a%20b?x=1&y=%2F');
    expect(reply.headers.get('x-method')).toBe('DELETE');
    expect(reply.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
    expect(reply.headers.get('x-secret')).toBeNull();
    expect(reply.headers.get('cfn-tee')).toBe('simulated');
    const seen = (await reply.json()) as [string, string][];
    expect(seen).toContainEqual(['x-mine', 'yes']);
    expect(seen.filter(([name]) => name === 'cfn-function-version')).toEqual([['cfn-function-version', echo.version]]);
    expect(seen.map(([name]) => name)).not.toContain('cfn-tee');
  });

  test('streams', async () => {
    const started = performance.now();
    const reply = await house.call('GET', '/f/acme/echo/stream');
    expect(performance.now() - started).toBeLessThan(250);
    expect(await reply.text()).toBe('one two three');
  });

  test('a large body goes there and back', async () => {
    const body = new Uint8Array(3 * 1024 * 1024).map((_, i) => i * 31);
    const reply = await house.call('PUT', '/f/acme/echo/', { body });
    expect(Buffer.compare(new Uint8Array(await reply.arrayBuffer()), body)).toBe(0);
  });

  test('its receipt is found by the request id, and the evidence by the receipt', async () => {
    const reply = await house.call('POST', '/f/acme/echo/', { body: 'hello' });
    await reply.text();
    const id = reply.headers.get('cfn-request-id') ?? '';
    const jws = await house.call('GET', `/.well-known/cfn/receipts/${id}`);
    expect(jws.headers.get('content-type')).toBe('application/jose');
    const workers = await attestation();
    const keys = JSON.parse(Buffer.from(workers.workers[0]?.evidence.workerKeys ?? '', 'base64url').toString()) as {
      receipt: { publicKey: string };
    };
    const receipt = await verifyReceipt(await jws.text(), keys.receipt.publicKey);
    expect(receipt).toMatchObject({ id, worker: worker.workerId, function: { version: echo.version } });
    const evidence = await house.call('GET', `/.well-known/cfn/evidence/${receipt.evidence}`);
    expect(await evidence.json()).toEqual(workers.workers[0]?.evidence);
  });

  test.each([
    ['/f/nobody/echo/', '404 CFN_TENANT_NOT_FOUND'],
    ['/f/acme/nothing/', '404 CFN_FUNCTION_NOT_FOUND'],
    ['/f/acme/%65cho/', '404 CFN_NOT_FOUND'],
    ['/f/acme/sealed-only/', '403 CFN_PLAINTEXT_REFUSED'],
    ['/elsewhere', '404 CFN_NOT_FOUND'],
    ['/.well-known/cfn/receipts/00', '404 CFN_RECEIPT_NOT_FOUND'],
  ])('%s is refused: %s', async (path, code) => {
    const reply = await house.call('GET', path);
    expect(reply.headers.get('content-type')).toBe('application/problem+json');
    expect(reply.headers.get('cfn-request-id')).toMatch(/^[0-9a-f]{32}$/);
    expect(await codeOf(reply)).toBe(code);
  });

  test('a body over the limit is refused, announced or not', async () => {
    const announced = await house.call('POST', '/f/acme/echo/', { body: new Uint8Array(REQUEST_BYTES_MAX + 1) });
    expect(await codeOf(announced)).toBe('413 CFN_BODY_TOO_LARGE');
    expect(await chunkedPost('/f/acme/echo/', REQUEST_BYTES_MAX + 1, {})).toMatch(/CFN_BODY_TOO_LARGE/);
    expect((await house.call('POST', '/f/acme/echo/', { body: 'x' })).status).toBe(200);
  });
});

describe('sealed relay', () => {
  test('a sealed call answers, with a receipt in the ledger', async () => {
    const before = await usageRequests('sealed-only');
    const reply = await sealedTo('acme/sealed-only', '/', { method: 'POST', body: 'secret words' });
    expect(await reply.text()).toBe('secret words');
    expect(await usageRequests('sealed-only')).toBe(before + 1);
  });

  test('the relay sees no plaintext: neither the body nor the path is in what it carries, or in its log', async () => {
    const { workers } = await attestation();
    const keys = JSON.parse(Buffer.from(workers[0]?.evidence.workerKeys ?? '', 'base64url').toString()) as never;
    const exchange = await sealRequest({
      workerKeys: keys,
      version: echo.version,
      request: { method: 'POST', authority: 'x', path: '/marker-path', headers: [], body: utf8('marker-body') },
      now: new Date(),
    });
    const sealed: Uint8Array[] = [];
    for await (const part of exchange.body) sealed.push(part);
    const reply = await postSealed(Buffer.concat(sealed), worker.workerId);
    const bytes = Buffer.from(await reply.arrayBuffer());
    expect(reply.headers.get('content-type')).toBe('message/ohttp-chunked-res');
    for (const text of [Buffer.concat(sealed).toString('latin1'), bytes.toString('latin1'), house.logs.join()])
      expect(text).not.toContain('marker');
    async function* once(): AsyncIterable<Uint8Array> {
      yield bytes;
    }
    const opened = await exchange.open(once());
    const plain: Uint8Array[] = [];
    for await (const part of opened.body) plain.push(part);
    expect(Buffer.concat(plain).toString()).toBe('marker-body');
    expect((await opened.receipt).receipt.id).toBe(reply.headers.get('cfn-request-id'));
  });

  test('an unknown worker is a stale key configuration', async () => {
    expect(await codeOf(await postSealed(Buffer.from('x'), '0'.repeat(64)))).toBe('422 CFN_KEY_CONFIG_STALE');
  });

  test('a sealed request must name its worker, be a POST, and open', async () => {
    expect(await codeOf(await postSealed(Buffer.from('x'), 'nonsense'))).toBe('400 CFN_REQUEST_MALFORMED');
    const got = await house.call('PUT', '/f/acme/echo/', {
      headers: { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': worker.workerId },
      body: 'x',
    });
    expect(await codeOf(got)).toBe('400 CFN_REQUEST_MALFORMED');
    expect(await codeOf(await postSealed(Buffer.from('not sealed at all'), worker.workerId))).toBe(
      '422 CFN_KEY_CONFIG_STALE', // by its first bytes, sealed to keys that nobody has
    );
    expect(await codeOf(await postSealed(Buffer.from('short'), worker.workerId))).toBe('400 CFN_REQUEST_MALFORMED');
  });

  test('a body over the limit is refused, announced or not', async () => {
    const bytes = REQUEST_BYTES_MAX + 2 * 1024 * 1024;
    expect(await codeOf(await postSealed(new Uint8Array(bytes), worker.workerId))).toBe('413 CFN_BODY_TOO_LARGE');
    const headers = { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': worker.workerId };
    // The worker may refuse the garbage before the limit is reached; either way there is an answer with a code.
    expect(await chunkedPost('/f/acme/echo/', bytes, headers)).toMatch(/CFN_BODY_TOO_LARGE|CFN_KEY_CONFIG_STALE/);
  });
});

describe('trouble', () => {
  test('a caller that goes away cancels the call at the worker', async () => {
    const before = worker.cancelled;
    const abort = new AbortController();
    const pending = fetch(`${house.gateway.url}/f/acme/echo/slow`, { signal: abort.signal });
    await sleep(100);
    abort.abort();
    await expect(pending).rejects.toThrow();
    for (let i = 0; i < 40 && worker.cancelled === before; i++) await sleep(25);
    expect(worker.cancelled).toBe(before + 1);
  });

  test('a caller that goes away while the function is loaded takes no place on the worker', async () => {
    const other = await openHouse();
    const loaded = Promise.withResolvers<void>();
    const loading = await other.worker({ onLoad: () => loaded.promise });
    const token = await other.tenant('acme');
    await other.deploy(token, await signedFunction()); // no worker is there
    const body = { address: loading.address };
    await other.call('POST', '/v1/workers', { token: other.operator, body });
    const abort = new AbortController();
    const headers = { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': loading.workerId };
    const calls = [{ method: 'POST', headers, body: 'sealed' }, {}].map((init) =>
      fetch(`${other.gateway.url}/f/acme/echo/`, { ...init, signal: abort.signal }).catch(() => 'gone'),
    );
    await expect.poll(() => loading.loads.length).toBe(1);
    await sleep(200);
    abort.abort();
    expect(await Promise.all(calls)).toEqual(['gone', 'gone']);
    await sleep(100);
    loaded.resolve();
    const load = async (): Promise<unknown> => {
      const reply = await other.call('GET', '/v1/workers', { token: other.operator });
      const [it] = ((await reply.json()) as { workers: { functions: number; load: { inflight: number } }[] }).workers;
      return [it?.functions, it?.load.inflight];
    };
    await expect.poll(load, { timeout: 5_000 }).toEqual([1, 0]);
    expect(loading.invocations).toEqual([]);
    loading.kill();
    await other.gateway.stop();
  });

  test('a worker that is killed half way: its callers see the cut or a code, others are served', async () => {
    const doomed = await house.worker({ run });
    await house.call('POST', '/v1/workers', { token: house.operator, body: { address: doomed.address } });
    const spare = await openHouseFunction('doomed'); // both load it
    const sealed = await sealOnce(doomed.workerId, '/die', spare);
    const slow = await sealOnce(doomed.workerId, '/slow', spare);
    const [cut, lost, other] = await Promise.allSettled([
      postSealed(sealed, doomed.workerId, 'doomed').then((reply) => reply.arrayBuffer()),
      sleep(30)
        .then(() => postSealed(slow, doomed.workerId, 'doomed'))
        .then(codeOf),
      sealedFetch('/', { method: 'POST', body: 'still here' }).then((reply) => reply.text()),
    ]);
    expect(cut.status).toBe('rejected');
    // The response nonce of OHTTP is sent before the function answers, so this one may be cut as well.
    expect(lost.status === 'rejected' || lost.value === '502 CFN_WORKER_LOST').toBe(true);
    expect(other).toMatchObject({ status: 'fulfilled', value: 'still here' });
    for (let i = 0; i < 100 && (await liveWorkers()).includes(doomed.workerId); i++) await sleep(25);
    expect(await liveWorkers()).toEqual([worker.workerId]);
    expect((await house.call('POST', '/f/acme/echo/', { body: 'x' })).status).toBe(200);
  });

  test('without a worker there is an answer with a code', async () => {
    const empty = await openHouse();
    await empty.deploy(await empty.tenant('acme'), echo);
    expect(await codeOf(await empty.call('GET', '/f/acme/echo/'))).toBe('503 CFN_WORKER_UNAVAILABLE');
    await empty.gateway.stop();
  });

  test('a worker that refuses a version refuses at deployment, and each call says why', async () => {
    const token = await house.tenant('acme');
    const reply = await house.deploy(token, await signedFunction({ name: 'unloadable' }));
    expect(await reply.json()).toMatchObject({
      workers: [{ workerId: worker.workerId, loaded: false, code: 'CFN_GRANT_MISSING' }],
    });
    expect(await codeOf(await house.call('GET', '/f/acme/unloadable/'))).toBe('403 CFN_GRANT_MISSING');
  });

  test('a receipt that was altered on its way is not counted', async () => {
    const forging = await openHouse();
    const forger = await forging.worker({ alterReceipt: (jws) => `${jws.slice(0, -8)}AAAAAAAA` });
    await forging.deploy(await forging.tenant('acme'), echo);
    await forging.call('POST', '/v1/workers', { token: forging.operator, body: { address: forger.address } });
    const call = await confidentialFetch({
      endpoint: forging.gateway.url,
      function: 'acme/echo',
      policy: forging.policy,
    });
    await (await call('/', { method: 'POST', body: 'x' } as never)).text();
    const usage = await forging.call('GET', '/v1/usage', { token: forging.operator });
    expect(await usage.json()).toMatchObject({ usage: [] });
    expect(await (await fetch(`${forging.gateway.adminUrl}/metrics`)).text()).toContain(
      'cfn_receipts_total{outcome="invalid"} 1',
    );
    forger.kill();
    await forging.gateway.stop();
  });
});

describe('attestation document', () => {
  test('is what the client appraises; a nonce of the caller is answered', async () => {
    const plain = await attestation();
    expect(plain).toMatchObject({
      function: { tenant: 'acme', name: 'echo', version: echo.version, manifest: echo.jws },
      models: [],
      policy: { name: 'simulated' },
    });
    const nonce = 'ab'.repeat(32);
    const fresh = await attestation(`&nonce=${nonce}`);
    const quoted = await callerNonce(fromHex(nonce));
    expect(fresh.workers[0]).toMatchObject({ workerId: worker.workerId, nonce: toHex(quoted) });
    expect(Buffer.from(fresh.workers[0]?.evidence.nonce ?? '', 'base64url')).toEqual(Buffer.from(quoted));
  });

  test('challenges with a nonce are limited', async () => {
    const replies = await Promise.all(
      Array.from({ length: 20 }, () =>
        house.call('GET', `/.well-known/cfn/attestation?function=acme/echo&nonce=${'cd'.repeat(32)}`),
      ),
    );
    expect(replies.filter(({ status }) => status === 503).length).toBeGreaterThan(5);
    expect((await house.call('GET', '/.well-known/cfn/attestation?function=acme/echo')).status).toBe(200);
  });

  test('gives out what it made of a worker as EAR, under the key that it publishes', async () => {
    const answer = async (path: string): Promise<string> =>
      (await house.call('GET', `/.well-known/cfn/${path}`)).text();
    const { workers } = JSON.parse(await answer('results')) as { workers: { workerId: string; result: string }[] };
    const keys = await answer('jwks.json');
    expect(keys).not.toContain('"d"');
    const [worker] = workers;
    const { findings, claims } = await appraiseEar(worker?.result ?? '', {
      keys,
      now: new Date(),
      policy: house.policy,
    });
    // Signed, live, of this policy; and no relying party takes a simulated platform for hardware.
    expect(findings.flatMap((finding) => (finding.outcome === 'failed' ? [finding.reason] : []))).toEqual([
      'evidence/token-result',
    ]);
    expect(claims.submodules).toMatchObject([
      { status: 'contraindicated', annotatedEvidence: { workerId: worker?.workerId }, trustVector: { hardware: 97 } },
    ]);
  });

  test.each(['', '?function=acme', '?function=acme/echo/x', '?function=acme/echo&nonce=00', '?function=ACME/echo'])(
    '%s is refused',
    async (query) => {
      expect(await codeOf(await house.call('GET', `/.well-known/cfn/attestation${query}`))).toBe(
        '400 CFN_INPUT_INVALID',
      );
    },
  );
});

test('metrics and health are on the admin listener, and not on the public one', async () => {
  const text = await (await fetch(`${house.gateway.adminUrl}/metrics`)).text();
  expect(text).toMatch(/cfn_requests_total\{mode="open",outcome="ok"\} \d+/);
  expect(text).toContain('cfn_workers 1');
  expect(await (await fetch(`${house.gateway.adminUrl}/healthz`)).text()).toBe('ok');
  expect(await (await fetch(`${house.gateway.adminUrl}/readyz`)).json()).toEqual({ ready: true, workers: 1 });
  expect(await codeOf(await house.call('GET', '/metrics'))).toBe('404 CFN_NOT_FOUND');
});

// ---- helpers

interface Document {
  readonly workers: { readonly workerId: string; readonly nonce: string; readonly evidence: Evidence }[];
}
async function attestation(more = '', name = 'echo'): Promise<Document> {
  return (await (
    await house.call('GET', `/.well-known/cfn/attestation?function=acme/${name}${more}`)
  ).json()) as Document;
}
function postSealed(body: Uint8Array, workerId: string, name = 'echo'): Promise<Response> {
  return house.call('POST', `/f/acme/${name}/`, {
    headers: { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': workerId },
    body,
  });
}
async function liveWorkers(): Promise<string[]> {
  const reply = await house.call('GET', '/v1/workers', { token: house.operator });
  return ((await reply.json()) as { workers: { workerId: string }[] }).workers.map(({ workerId }) => workerId);
}
async function usageRequests(name: string): Promise<number> {
  const reply = await house.call('GET', '/v1/usage', { token: house.operator });
  return (
    ((await reply.json()) as { usage: { subject: string; requests: number }[] }).usage.find(({ subject }) =>
      subject.endsWith(`/${name}`),
    )?.requests ?? 0
  );
}
async function openHouseFunction(name: string): Promise<SignedManifest> {
  const signed = await signedFunction({ name });
  await house.deploy(await house.tenant('acme'), signed);
  return signed;
}
async function sealOnce(workerId: string, path: string, signed: SignedManifest): Promise<Uint8Array> {
  const { workers } = await attestation('', signed.manifest.name);
  const evidence = workers.find((it) => it.workerId === workerId)?.evidence;
  const workerKeys = JSON.parse(Buffer.from(evidence?.workerKeys ?? '', 'base64url').toString()) as never;
  const exchange = await sealRequest({
    workerKeys,
    version: signed.version,
    request: { method: 'POST', authority: 'x', path, headers: [] },
    now: new Date(),
  });
  const parts: Uint8Array[] = [];
  for await (const part of exchange.body) parts.push(part);
  return Buffer.concat(parts);
}
/** Posts zeros without a content-length; gives the whole answer as text. */
function chunkedPost(path: string, bytes: number, headers: Record<string, string>): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(house.gateway.url + path, { method: 'POST', headers }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
      response.on('end', () => resolve(text));
    });
    request.on('error', reject);
    for (let sent = 0; sent < bytes; sent += 65_536) request.write(Buffer.alloc(Math.min(65_536, bytes - sent)));
    request.end();
  });
}
