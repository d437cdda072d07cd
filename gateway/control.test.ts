import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { BUNDLE_BYTES_MAX, MANIFEST_BYTES_MAX, sha256Hex, toBase64url, utf8 } from '../proto/index.ts';
import { declaredAction } from './access/guard.ts';
import { adminApp, gatewayApp } from './app.ts';
import type { Gateway } from './context.ts';
import { openapiDocument } from './control/openapi.ts';
import { BUNDLE, codeOf, modelManifest, openHouse, signedFunction, type House } from './testkit.ts';
import { tokens } from './tokens.ts';
import { readdirSync, readFileSync, readlinkSync, truncateSync } from 'node:fs';
import { join } from 'node:path';

let house: House;
let acme: string;
let other: string;
let workerToken: string;
beforeAll(async () => {
  house = await openHouse();
  acme = await house.tenant('acme');
  other = await house.tenant('other');
  workerToken = readFileSync(join(house.stateFolder, 'worker.token'), 'utf8');
});
afterAll(() => house.gateway.stop());

const ciphertext = utf8('ciphertext');
const digest = sha256Hex(ciphertext);

test('token scope: who may do what', async () => {
  const echo = await signedFunction();
  const deployment = { manifest: echo.jws, bundle: toBase64url(BUNDLE) };
  const calls: [method: string, path: string, body: unknown, allowed: string][] = [
    ['POST', '/v1/tenants', {}, 'operator'],
    ['POST', '/v1/tokens', {}, 'operator'],
    ['POST', '/v1/workers', {}, 'operator'],
    ['GET', '/v1/workers', undefined, 'operator'],
    ['POST', '/v1/consents', {}, 'operator'],
    ['GET', '/v1/consents', undefined, 'operator'],
    ['DELETE', '/v1/workers/00', undefined, 'operator'],
    ['PUT', `/v1/blobs/${await digest}`, ciphertext, 'operator acme other'],
    ['GET', `/v1/blobs/${await digest}`, undefined, 'operator acme other worker'],
    ['HEAD', `/v1/blobs/${await digest}`, undefined, 'operator acme other worker'],
    ['POST', '/v1/models', await modelManifest('acme/m@1', ciphertext), 'operator acme'],
    ['GET', '/v1/models', undefined, 'operator acme other worker'],
    ['GET', '/v1/models/acme/m/1', undefined, 'operator acme other worker'],
    ['POST', '/v1/functions/acme/echo/versions', deployment, 'operator acme'],
    ['GET', '/v1/functions', undefined, 'operator acme other'],
    ['GET', '/v1/functions/acme/echo', undefined, 'operator acme'],
    ['GET', '/v1/usage', undefined, 'operator acme other'],
    ['GET', '/v1/tenants', undefined, 'operator'],
    ['POST', '/v1/keys', {}, 'operator acme other'],
    ['GET', '/v1/keys', undefined, 'operator acme other'],
    ['DELETE', '/v1/keys/00', undefined, 'operator acme other'],
  ];
  const callers: Record<string, string | undefined> = {
    nobody: undefined,
    operator: house.operator,
    acme,
    other,
    worker: workerToken,
  };
  for (const [method, path, body, allowed] of calls) {
    for (const [who, token] of Object.entries(callers)) {
      const { status } = await house.call(method, path, { token, body });
      const expected = who === 'nobody' ? 401 : allowed.split(' ').includes(who) ? undefined : 403;
      if (expected === undefined) expect([401, 403], `${who} ${method} ${path}`).not.toContain(status);
      else expect(status, `${who} ${method} ${path}`).toBe(expected);
    }
  }
});

describe('tokens', () => {
  test('a forged token is refused, also in form', async () => {
    const forged = await tokens(new Uint8Array(32), () => new Date()).issue({ role: 'operator', sub: 'x' }, 60);
    for (const token of [forged, 'x', `${acme}x`]) {
      expect(await codeOf(await house.call('GET', '/v1/models', { token }))).toBe('401 CFN_TOKEN_INVALID');
    }
  });

  test('are made for tenants that exist, and for nobody else', async () => {
    const make = (body: unknown) => house.call('POST', '/v1/tokens', { token: house.operator, body }).then(codeOf);
    expect(await make({ tenant: 'nobody', role: 'tenant', ttlSeconds: 60 })).toBe('404 CFN_TENANT_NOT_FOUND');
    expect(await make({ tenant: 'acme', role: 'operator', ttlSeconds: 60 })).toBe('400 CFN_INPUT_INVALID');
    expect(await make({ tenant: 'acme', role: 'tenant', ttlSeconds: 60, more: 1 })).toBe('400 CFN_INPUT_INVALID');
    expect(await make({ tenant: 'acme', role: 'tenant', ttlSeconds: 1e12 })).toBe('400 CFN_INPUT_INVALID');
  });

  test('a tenant exists once', async () => {
    const reply = await house.call('POST', '/v1/tenants', { token: house.operator, body: { name: 'acme' } });
    expect(await codeOf(reply)).toBe('409 CFN_CONFLICT');
  });
});

describe('API keys', () => {
  const make = (token: string, body: unknown) => house.call('POST', '/v1/keys', { token, body });
  const made = async (token: string, body: unknown) =>
    (await (await make(token, body)).json()) as { id: string; key: string } & Record<string, unknown>;
  const list = async (token: string) => (await house.call('GET', '/v1/keys', { token })).text();

  test('are made by an owner, shown once, listed without their secret, and revoked', async () => {
    const { key, ...told } = await made(acme, { name: 'ci', role: 'developer', ttlSeconds: 600 });
    expect(told).toMatchObject({
      name: 'ci',
      role: 'developer',
      tenant: 'acme',
      expiresAt: expect.any(String) as string,
    });
    expect((await house.call('GET', '/v1/functions', { token: key })).status).toBe(200);
    await expect.poll(() => list(acme)).toContain('"usedAt":"');
    expect(await list(acme)).toContain(told.id);
    expect(await list(acme)).not.toContain(key.slice(21, -8));
    expect(await list(acme)).not.toContain('digest');
    expect((await house.call('DELETE', `/v1/keys/${told.id}`, { token: acme })).status).toBe(204);
    const reply = await house.call('GET', '/v1/functions', { token: key });
    expect(reply.headers.get('www-authenticate')).toBe('Bearer');
    expect(await codeOf(reply)).toBe('401 CFN_TOKEN_INVALID');
    expect(house.logs.join('\n')).not.toContain(key.slice(21, -8));
  });

  test('do what their role may, and make none that may do more', async () => {
    const viewer = await made(acme, { name: 'dashboard', role: 'viewer' });
    const operator = await made(house.operator, { name: 'ops', role: 'operator' });
    expect((await house.call('GET', '/v1/usage', { token: viewer.key })).status).toBe(200);
    expect(await codeOf(await make(viewer.key, { name: 'x', role: 'viewer' }))).toBe('403 CFN_TOKEN_SCOPE');
    expect((await house.call('GET', '/v1/tenants', { token: operator.key })).status).toBe(200);
    for (const body of [
      { name: 'x', role: 'operator' },
      { name: 'x', role: 'worker' },
      { name: 'x', role: 'viewer', tenant: 'other' },
    ])
      expect(await codeOf(await make(acme, body)), JSON.stringify(body)).toBe('403 CFN_TOKEN_SCOPE');
    for (const [body, code] of [
      [{ name: 'x', role: 'viewer' }, '400 CFN_INPUT_INVALID'],
      [{ name: 'x', role: 'operator', tenant: 'acme' }, '400 CFN_INPUT_INVALID'],
      [{ name: 'x', role: 'viewer', tenant: 'nobody' }, '404 CFN_TENANT_NOT_FOUND'],
      [{ name: 'x\n', role: 'viewer', tenant: 'acme' }, '400 CFN_INPUT_INVALID'],
    ] as const)
      expect(await codeOf(await make(house.operator, body)), JSON.stringify(body)).toBe(code);
  });

  test('of another tenant are as ones that are not there', async () => {
    const { id } = await made(acme, { name: 'mine', role: 'viewer' });
    const answers = [id, '0'.repeat(16)].map(async (one) => {
      const reply = await house.call('DELETE', `/v1/keys/${one}`, { token: other });
      return `${reply.status} ${await reply.text()}`;
    });
    const [foreign, missing] = await Promise.all(answers);
    expect(foreign).toBe(missing);
    expect(foreign).toContain('CFN_NOT_FOUND');
    expect(await list(other)).not.toContain(id);
    expect(await list(acme)).toContain(id);
  });
});

test('the audit says who did what to which thing and how it ended, and holds no secret', async () => {
  const mine = await openHouse();
  const token = await mine.tenant('acme');
  await mine.call('POST', '/v1/consents', { token, body: { subject: 'acme', admitted: false } });
  await mine.call('POST', '/v1/keys', { token, body: { name: 'ci', role: 'viewer' } });
  await mine.call('GET', '/v1/functions', { token });
  await mine.call('DELETE', `/v1/keys/${'9'.repeat(500)}`, { token });
  const audit = mine.logs
    .map((line) => JSON.parse(line) as Record<string, string>)
    .filter(({ event }) => event === 'audit');
  expect(audit.map(({ who, role, action, outcome }) => [who, role, action, outcome])).toEqual([
    ['operator', 'operator', 'tenants:write', 'ok'],
    ['operator', 'operator', 'tokens:write', 'ok'],
    ['owner of acme', 'owner', 'consents:write', 'CFN_TOKEN_SCOPE'],
    ['owner of acme', 'owner', 'keys:write', 'ok'],
    ['owner of acme', 'owner', 'keys:write', 'CFN_NOT_FOUND'],
  ]);
  expect(audit[0]).toMatchObject({ subject: 'acme', request: expect.stringMatching(/^[0-9a-f]{32}$/) as string });
  expect(audit[3]?.['subject']).toMatch(/^acme key [0-9a-f]{16} viewer$/);
  for (const line of audit) for (const value of Object.values(line)) expect(value.length).toBeLessThanOrEqual(200);
  for (const secret of [token, mine.operator]) expect(mine.logs.join('\n')).not.toContain(secret);
  await mine.gateway.stop();
});

describe('blobs', () => {
  test('go in once, and come out', async () => {
    const bytes = new Uint8Array(1_000_000).fill(3);
    const path = `/v1/blobs/${await sha256Hex(bytes)}`;
    expect(await codeOf(await house.call('GET', path, { token: acme }))).toBe('404 CFN_BLOB_NOT_FOUND');
    expect((await house.call('PUT', path, { token: acme, body: bytes })).status).toBe(201);
    expect((await house.call('PUT', path, { token: acme, body: bytes })).status).toBe(200);
    const head = await house.call('HEAD', path, { token: workerToken });
    expect([head.status, head.headers.get('content-length')]).toEqual([200, '1000000']);
    const got = await house.call('GET', path, { token: workerToken });
    expect(Buffer.compare(new Uint8Array(await got.arrayBuffer()), bytes)).toBe(0);
  });

  test('with a wrong digest are refused', async () => {
    const path = `/v1/blobs/${'a'.repeat(64)}`;
    expect(await codeOf(await house.call('PUT', path, { token: acme, body: ciphertext }))).toBe(
      '422 CFN_ARTIFACT_ALTERED',
    );
    expect((await house.call('HEAD', path, { token: acme })).status).toBe(404);
    expect(await codeOf(await house.call('PUT', '/v1/blobs/XYZ', { token: acme, body: 'x' }))).toBe(
      '400 CFN_INPUT_INVALID',
    );
  });

  test('that have begun are not read on for a caller who has gone', async () => {
    const path = `/v1/blobs/${'b'.repeat(64)}`;
    const incoming = join(house.stateFolder, 'blobs', 'incoming');
    const patch = (offset: number, signal: AbortSignal): Promise<Response> => {
      const body = new ReadableStream({ start: (part) => part.enqueue(ciphertext) });
      const headers = { authorization: `Bearer ${acme}`, 'upload-offset': String(offset) };
      const init: RequestInit & { duplex: 'half' } = { method: 'PATCH', headers, body, duplex: 'half', signal };
      return fetch(`${house.gateway.url}${path}`, init);
    };
    const begun = async (): Promise<number> =>
      Number((await house.call('HEAD', path, { token: acme })).headers.get('upload-offset'));
    const isOpen = (): boolean =>
      readdirSync('/proc/self/fd').some((fd) => {
        try {
          return readlinkSync(`/proc/self/fd/${fd}`).startsWith(incoming);
        } catch {
          return false; // closed meanwhile
        }
      });

    const first = new AbortController();
    const broken = patch(0, first.signal);
    await expect.poll(begun, { timeout: 10_000 }).toBe(ciphertext.length);
    first.abort();
    await expect(broken).rejects.toThrow();
    await expect.poll(isOpen, { timeout: 10_000 }).toBe(false);

    const much = 60 * 1024 ** 3; // to read it takes longer than this test may
    for (const name of readdirSync(incoming)) truncateSync(join(incoming, name), much);
    const second = new AbortController();
    const again = patch(much, second.signal);
    await expect.poll(isOpen, { timeout: 10_000 }).toBe(true);
    second.abort();
    await expect(again).rejects.toThrow();
    await expect.poll(isOpen, { timeout: 10_000 }).toBe(false);
    expect(await begun()).toBe(much);
  });
});

describe('models', () => {
  const post = (body: Uint8Array, token = acme) => house.call('POST', '/v1/models', { token, body });

  test('are kept as exact bytes', async () => {
    await house.call('PUT', `/v1/blobs/${await digest}`, { token: acme, body: ciphertext });
    const manifest = await modelManifest('acme/exact@1', ciphertext);
    expect((await post(manifest)).status).toBe(201);
    expect((await post(manifest)).status).toBe(200);
    const got = await house.call('GET', '/v1/models/acme/exact/1', { token: workerToken });
    expect(new Uint8Array(await got.arrayBuffer())).toEqual(new Uint8Array(manifest));
    expect(got.headers.get('cfn-digest')).toBe(await sha256Hex(manifest));
    // The same meaning in other bytes is another package.
    expect(await codeOf(await post(utf8(`${Buffer.from(manifest).toString()}\n`)))).toBe('409 CFN_CONFLICT');
  });

  test.each<[string, () => Promise<Uint8Array>, string]>([
    ['another owner', () => modelManifest('other/m@1', ciphertext), '403 CFN_TOKEN_SCOPE'],
    ['a missing blob', () => modelManifest('acme/missing@1', utf8('never pushed')), '404 CFN_BLOB_NOT_FOUND'],
    ['what is no manifest', async () => utf8('{}'), '422 CFN_ARTIFACT_ALTERED'],
    ['a manifest over the limit', async () => new Uint8Array(MANIFEST_BYTES_MAX + 1), '413 CFN_BODY_TOO_LARGE'],
  ])('%s is refused', async (_, manifest, code) => {
    expect(await codeOf(await post(await manifest()))).toBe(code);
  });

  test('an unknown one is not found', async () => {
    expect(await codeOf(await house.call('GET', '/v1/models/acme/nothing/1', { token: acme }))).toBe(
      '404 CFN_MODEL_NOT_FOUND',
    );
  });
});

describe('deployment', () => {
  test('stores the version, and the newest is current', async () => {
    const first = await signedFunction({ name: 'two' });
    const second = await signedFunction({ name: 'two', vars: { A: '1' } });
    const reply = await house.deploy(acme, first);
    expect(reply.status).toBe(201);
    expect(await reply.json()).toMatchObject({
      tenant: 'acme',
      name: 'two',
      version: first.version,
      url: `${house.gateway.url}/f/acme/two/`,
      workers: [],
    });
    await house.deploy(acme, second);
    const current = await house.call('GET', '/v1/functions/acme/two', { token: acme });
    expect(await current.json()).toMatchObject({ version: second.version, author: second.author, jws: second.jws });
    expect((await house.deploy(acme, first)).status).toBe(200);
  });

  test('what was altered after signing is refused', async () => {
    const signed = await signedFunction();
    const [header, , signature] = signed.jws.split('.');
    const payload = Buffer.from(JSON.stringify({ ...signed.manifest, vars: { A: 'x' } })).toString('base64url');
    expect(await codeOf(await house.deploy(acme, { ...signed, jws: `${header}.${payload}.${signature}` }))).toBe(
      '422 CFN_MANIFEST_ALTERED',
    );
    expect(await codeOf(await house.deploy(acme, signed, utf8('other code')))).toBe('422 CFN_MANIFEST_ALTERED');
  });

  test('a manifest for another function, an unknown model, another tenant, a huge bundle: refused', async () => {
    const signed = await signedFunction();
    expect(await codeOf(await house.deploy(acme, { ...signed, manifest: { ...signed.manifest, name: 'else' } }))).toBe(
      '400 CFN_INPUT_INVALID',
    );
    const unknown = await signedFunction({
      models: [{ binding: 'M', model: 'acme/unknown@1', digest: '0'.repeat(64) }],
    });
    expect(await codeOf(await house.deploy(acme, unknown))).toBe('404 CFN_MODEL_NOT_FOUND');
    expect(await codeOf(await house.deploy(other, signed))).toBe('403 CFN_TOKEN_SCOPE');
    expect(await codeOf(await house.deploy(house.operator, await signedFunction({ tenant: 'nobody' })))).toBe(
      '404 CFN_TENANT_NOT_FOUND',
    );
    expect(await codeOf(await house.deploy(acme, signed, new Uint8Array(BUNDLE_BYTES_MAX + 1024 * 1024 * 2)))).toBe(
      '413 CFN_BODY_TOO_LARGE',
    );
  });

  test('a tenant sees its own functions only', async () => {
    await house.deploy(acme, await signedFunction());
    const list = async (token: string) =>
      ((await (await house.call('GET', '/v1/functions', { token })).json()) as { functions: { tenant: string }[] })
        .functions;
    expect((await list(acme)).length).toBeGreaterThan(0);
    expect(await list(other)).toEqual([]);
    expect(await codeOf(await house.call('GET', '/v1/functions/acme/nothing', { token: acme }))).toBe(
      '404 CFN_FUNCTION_NOT_FOUND',
    );
  });
});

describe('workers', () => {
  test('an operator admits one, and takes it out', async () => {
    const worker = await house.worker();
    const reply = await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } });
    expect(await reply.json()).toMatchObject({ workerId: worker.workerId, tee: 'simulated', simulated: true });
    const path = `/v1/workers/${worker.workerId}`;
    expect((await house.call('DELETE', path, { token: house.operator })).status).toBe(204);
    expect(await (await house.call('GET', '/v1/workers', { token: house.operator })).json()).toEqual({ workers: [] });
    expect(await codeOf(await house.call('DELETE', path, { token: house.operator }))).toBe('404 CFN_NOT_FOUND');
    worker.kill();
  });

  test('a worker that is away is taken out by its address', async () => {
    const worker = await house.worker();
    await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } });
    worker.kill();
    const list = async () => (await house.call('GET', '/v1/workers', { token: house.operator })).json();
    await expect.poll(list, { timeout: 10_000 }).toEqual({ workers: [] });
    const path = `/v1/workers/${worker.address}`;
    expect((await house.call('DELETE', path, { token: house.operator })).status).toBe(204);
    expect(await codeOf(await house.call('DELETE', path, { token: house.operator }))).toBe('404 CFN_NOT_FOUND');
  });

  test('an address where nobody answers, or that is none, is refused', async () => {
    const admit = (address: string) =>
      house.call('POST', '/v1/workers', { token: house.operator, body: { address } }).then(codeOf);
    expect(await admit('127.0.0.1:1')).toBe('503 CFN_WORKER_UNAVAILABLE');
    expect(await admit('http://127.0.0.1')).toBe('400 CFN_INPUT_INVALID');
  });
});

test('a restart keeps what was acknowledged, and admits the named workers anew', async () => {
  const first = await openHouse();
  const worker = await first.worker();
  const token = await first.tenant('acme');
  const echo = await signedFunction();
  await first.deploy(token, echo);
  await first.call('POST', '/v1/workers', { token: first.operator, body: { address: worker.address } });
  const reply = await first.call('POST', '/f/acme/echo/', { body: 'x' });
  await reply.text();
  const receiptPath = `/.well-known/cfn/receipts/${reply.headers.get('cfn-request-id')}`;
  const receipt = await (await first.call('GET', receiptPath)).text();
  await first.gateway.stop();

  const again = await openHouse({ stateFolder: first.stateFolder, policy: first.policy });
  expect(await (await again.call('GET', receiptPath)).text()).toBe(receipt);
  expect(await (await again.call('GET', '/v1/usage', { token })).json()).toMatchObject({
    usage: [{ subject: 'acme/echo', requests: 1 }],
  });
  let status = 503;
  for (let i = 0; i < 100 && status === 503; i++)
    status = (await again.call('POST', '/f/acme/echo/', { body: 'y' })).status;
  expect(status).toBe(200);
  worker.kill();
  await again.gateway.stop();
});

test('INV-35: every route declares its action, and the OpenAPI document says the same', () => {
  const app = gatewayApp({ monotonicMs: () => 0 } as Gateway);
  const { paths } = openapiDocument();
  const routes = new Map<string, (string | undefined)[]>();
  for (const { method, path, handler } of app.routes) {
    if (path === '/*') continue;
    const key = `${method} ${path}`;
    routes.set(key, [...(routes.get(key) ?? []), declaredAction(handler)]);
  }
  expect(routes.size).toBeGreaterThan(20);
  for (const [route, [first, ...others]] of routes) {
    // The declaration stands before the handler, which has none of its own.
    expect(first, route).toBeDefined();
    expect(others, route).toEqual([undefined]);
    const [method = '', path = ''] = route.split(' ');
    const told = paths[path.replaceAll(/:(\w+)/g, '{$1}')]?.[method.toLowerCase()] as
      { 'x-cfn-action': string } | undefined;
    // A preflight belongs to the route that it asks for.
    if (method !== 'ALL' && method !== 'OPTIONS') expect(told?.['x-cfn-action'], route).toBe(first);
  }
});

test('the OpenAPI document names every route, and no other', async () => {
  const app = gatewayApp({ monotonicMs: () => 0 } as Gateway);
  const served = app.routes
    .filter(({ method, path }) => method !== 'ALL' && method !== 'OPTIONS' && path !== '/*')
    .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)/g, '{$1}')}`);
  const { paths } = openapiDocument();
  const described = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(described.toSorted()).toEqual([...new Set(served)].toSorted());
  expect((await house.call('GET', '/v1/openapi.json')).status).toBe(200);
  expect(adminApp({} as Gateway).routes.map(({ path }) => path)).toEqual(['/healthz', '/readyz', '/metrics']);
});
