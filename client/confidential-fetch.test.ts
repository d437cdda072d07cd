import { beforeEach, describe, expect, test, vi } from 'vitest';
import {
  CfnError,
  fromBase64url,
  fromUtf8,
  HYBRID_KEM,
  parseWorkerKeys,
  toBase64url,
  toHex,
  utf8,
  workerId,
  type DecodedRequest,
  type Evidence,
} from '../proto/index.ts';
import { nodeSuite } from '../proto/node.ts';
import type { AppraisalPolicy } from '../attestation/verifier/index.ts';
import { testGateway, type TestGateway } from './gateway.testkit.ts';
import { toStream } from './http.ts';
import { confidentialFetch, type ConfidentialFetchOptions } from './index.ts';
import { codeOf, stream, testWorker, urlOf, type Answer } from './worker.testkit.ts';

// The verifier has its own tests; here every worker whose evidence answers the nonce holds.
vi.mock('../attestation/verifier/index.ts', () => ({
  parseWorkerPolicy: () => undefined,
  appraise: async (evidence: Evidence, { nonce }: { nonce: Uint8Array }): Promise<unknown> => {
    if (toBase64url(nonce) !== evidence.nonce) throw new CfnError('CFN_NONCE_MISMATCH', 'nonce');
    const bytes = fromBase64url(evidence.workerKeys);
    const findings = [
      { check: 'nonce', outcome: 'passed' },
      { check: 'TCB', outcome: 'skipped', detail: 'simulated' },
    ];
    return {
      workerId: await workerId(bytes),
      workerKeys: parseWorkerKeys(bytes),
      simulated: true,
      evidenceDigest: 'e'.repeat(64),
      claims: { gpus: [] },
      findings,
    };
  },
}));

let gateway: TestGateway;
beforeEach(async () => {
  gateway = await testGateway();
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
  expect((await response.confidentiality.receipt).receipt.worker).toBe(gateway.worker.workerId);
  expect(response.confidentiality.worker.workerId).toBe(gateway.worker.workerId);
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
    'cfn-function-version': expect.stringMatching(/^[0-9a-f]{64}$/) as string,
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
  expect(response.confidentiality.worker.workerId).toBe(gateway.worker.workerId);
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
    return [body, await codeOf(response.confidentiality.receipt)];
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
  expect((await response.confidentiality.receipt).receipt.response.status).toBe(204);
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
  await expect(call('/', { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
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

describe('as fetch', () => {
  const seen = async (input: RequestInfo | URL, init?: RequestInit): Promise<DecodedRequest> => {
    const call = await open();
    const requests: DecodedRequest[] = [];
    gateway.respond = (request) => {
      requests.push({ ...request, body: new Uint8Array(request.body) });
      return {};
    };
    await (await call(input, init)).text();
    return requests[0] as DecodedRequest;
  };
  test.each([
    ['a path', '/a?b=c', '/a?b=c'],
    ['a relative path', 'a', '/a'],
    ['a URL', 'https://gw.example/v1/chat#here', '/v1/chat'],
    ['a URL object', new URL('https://gw.example/v1?x'), '/v1?x'],
    ["the function's address in the open", 'https://gw.example/f/acme/echo/v1', '/v1'],
    ['that address alone', '/f/acme/echo', '/'],
    ['an address that only begins so', '/f/acme/echo2/v1', '/f/acme/echo2/v1'],
    ['a Request', new Request('https://gw.example/r'), '/r'],
  ])('%s', async (_, input, path) => {
    expect((await seen(input)).path).toBe(path);
  });
  test('a Request with method, fields and body; what `init` says goes first', async () => {
    const request = (): Request =>
      new Request('https://gw.example/', { method: 'PUT', headers: { 'x-a': '1' }, body: 'whole' });
    const first = await seen(request());
    expect([first.method, fromUtf8(first.body)]).toEqual(['PUT', 'whole']);
    expect(first.headers).toContainEqual(['x-a', '1']);
    const second = await seen(request(), { method: 'POST', headers: { 'x-b': '2' }, body: 'other' });
    expect([second.method, fromUtf8(second.body)]).toEqual(['POST', 'other']);
    expect(second.headers.map(([name]) => name)).not.toContain('x-a');
  });
  test('bodies of every kind', async () => {
    const form = new FormData();
    form.set('a', 'b');
    const typeOf = (request: DecodedRequest): string | undefined =>
      request.headers.find(([name]) => name === 'content-type')?.[1];
    const multipart = await seen('/', { method: 'POST', body: form });
    expect(typeOf(multipart)).toMatch(/^multipart\/form-data; boundary=/);
    expect(fromUtf8(multipart.body)).toContain('name="a"');
    const query = await seen('/', { method: 'POST', body: new URLSearchParams({ q: '1' }) });
    expect([typeOf(query), fromUtf8(query.body)]).toEqual(['application/x-www-form-urlencoded;charset=UTF-8', 'q=1']);
    const blob = await seen('/', { method: 'POST', body: new Blob(['x'], { type: 'text/x' }) });
    expect([typeOf(blob), fromUtf8(blob.body)]).toEqual(['text/x', 'x']);
    const iterated = stream(utf8('a'), utf8('b')) as unknown as BodyInit;
    expect(fromUtf8((await seen('/', { method: 'POST', body: iterated })).body)).toBe('ab');
  });
  test('INV-39 nothing leaves for another origin, nor without a seal, and no check is passed over', async () => {
    const call = await open();
    for (const bad of ['https://evil.example/', 'http://gw.example/', '//evil.example/', 'data:,x'])
      expect(await codeOf(call(bad))).toBe('CFN_INPUT_INVALID');
    expect(await codeOf(call('/', { integrity: 'sha256-x' }))).toBe('CFN_INPUT_INVALID');
    expect(await codeOf(call('/', { body: toStream(stream(utf8('a'))) }))).toBe('CFN_INPUT_INVALID');
    expect(gateway.calls).toHaveLength(0);
  });
  test('the page and its cookies are not told', async () => {
    await (await (await open())('/', { credentials: 'include' })).text();
    expect(gateway.calls[0]?.init).toMatchObject({
      method: 'POST',
      credentials: 'omit',
      referrerPolicy: 'no-referrer',
      redirect: 'error',
    });
  });
  test('an abort rejects with its reason, before, during and in the body', async () => {
    const call = await open();
    const reason = new Error('enough');
    await expect(call('/', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    await expect(call(new Request('https://gw.example/', { signal: AbortSignal.abort(reason) }))).rejects.toBe(reason);
    const relayed = gateway.fetch;
    const during = new AbortController();
    gateway.fetch = () => new Promise(() => during.abort(reason));
    await expect(call('/', { signal: during.signal })).rejects.toBe(reason);
    gateway.fetch = async (...args) => {
      const whole = new Uint8Array(await (await relayed(...args)).arrayBuffer());
      const body = new ReadableStream({
        start: (controller) => controller.enqueue(whole.subarray(0, -5)),
        pull: () => new Promise((_, reject) => later.signal.addEventListener('abort', () => reject(reason))),
      });
      return new Response(body, { headers: { 'content-type': 'message/ohttp-chunked-res' } });
    };
    const later = new AbortController();
    const response = await call('/', { method: 'POST', body: 'x', signal: later.signal });
    const text = response.text();
    later.abort(reason);
    await expect(text).rejects.toBe(reason);
    await expect(response.confidentiality.receipt).rejects.toBe(reason);
  });
  test('redirects: followed within the function, each sealed anew; to nobody else', async () => {
    const call = await open();
    const paths: string[] = [];
    gateway.respond = ({ method, path, body }) => {
      paths.push(`${method} ${path} ${fromUtf8(body)}`);
      const [, status, to] = /^\/to\/(\d+)\/(.*)$/.exec(path) ?? [];
      return status === undefined
        ? {}
        : { status: Number(status), headers: [['location', decodeURIComponent(to ?? '')]] };
    };
    const post = { method: 'POST', body: 'x' };
    const response = await call('/to/302/%2Fend', post);
    expect([response.url, response.redirected]).toEqual(['https://gw.example/end', true]);
    await call('/to/307/%2Fend', post);
    expect(paths).toEqual(['POST /to/302/%2Fend x', 'GET /end ', 'POST /to/307/%2Fend x', 'POST /end x']);
    expect(await codeOf(call('/to/302/https%3A%2F%2Fevil.example'))).toBe('CFN_INPUT_INVALID');
    expect(await codeOf(call('/to/302/%2Fend', { redirect: 'error' }))).toBe('CFN_INPUT_INVALID');
    expect((await call('/to/302/%2Fend', { redirect: 'manual' })).status).toBe(302);
    gateway.respond = () => ({ status: 302, headers: [['location', '/']] });
    expect(await codeOf(call('/'))).toBe('CFN_INPUT_INVALID');
  });
  test('what stands behind the answer', async () => {
    const response = await (await open())('/');
    expect(response.confidentiality).toMatchObject({
      simulated: true,
      claims: { gpus: [] },
      skipped: [{ check: 'TCB', reason: 'simulated' }],
      evidenceDigest: 'e'.repeat(64),
      worker: { workerId: gateway.worker.workerId },
      version: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
      keyExchange: 'MLKEM768-X25519',
    });
    await response.text();
    expect((await response.confidentiality.receipt).receipt.worker).toBe(gateway.worker.workerId);
  });
  test('a worker without the hybrid KEM, or a client, is named so', async () => {
    gateway.worker = await testWorker({ hybrid: false });
    expect((await (await open())('/')).confidentiality.keyExchange).toBe('X25519');
    gateway.worker = await testWorker();
    const suite = { ...nodeSuite, hpke: new Map([...nodeSuite.hpke].filter(([id]) => id !== HYBRID_KEM)) };
    expect((await (await open({ suite }))('/')).confidentiality.keyExchange).toBe('X25519');
  });
  test('through a relay, the gateway is named in the path', async () => {
    const call = await open({ relay: 'https://relay.example/r' });
    await (await call('/secret')).text();
    expect(gateway.calls[0]?.url).toBe('https://relay.example/r/gw.example/f/acme/echo/');
  });
});

async function versionOf(call: Awaited<ReturnType<typeof open>>): Promise<string> {
  const response = await call('/');
  await response.text();
  return (await response.confidentiality.receipt).receipt.function.version;
}
