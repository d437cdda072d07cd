import { afterAll, beforeAll, expect, test } from 'vitest';
import { sha256Hex, toBase64url, utf8 } from '../proto/index.ts';
import { declaredAction } from './access/guard.ts';
import { ACCESS, TENANT_ROLES, type Action, type Role } from './access/roles.ts';
import { gatewayApp } from './app.ts';
import type { Gateway } from './context.ts';
import { openapiDocument } from './control/openapi.ts';
import { BUNDLE, codeOf, modelManifest, openHouse, signedFunction, type House } from './testkit.ts';
import type { ThrowawayWorker } from './worker.testkit.ts';

// INV-35: every route is tried with every role of another tenant, by token and by key. The routes are those that Hono knows, so that a new
// one is tried as well; one that takes a body fails here until it is said what to send.

/** Whose things the others want. No answer to them may hold the name. */
const VICTIM = 'zebra';
const ciphertext = utf8('ciphertext of zebra');

let house: House;
let worker: ThrowawayWorker;
let owner: string;
const intruders: { readonly name: string; readonly role: Role; readonly token: string }[] = [];
/** Path parameters that name the victim's things, and ones that name nothing. */
let theirs: Record<string, string>;
const nothing: Record<string, string> = {
  tenant: 'nobody',
  owner: 'nobody',
  name: 'none',
  version: '9',
  id: '0'.repeat(16),
  digest: '0'.repeat(64),
  hour: '1971-01-01T00',
  block: '9',
};
/** What is sent where a route takes a body; the victim's, or the same of nobody. */
let bodies: Record<string, { readonly theirs: unknown; readonly nobodys: unknown }>;

/** Things that are to be found by whoever has their exact name, and why. */
const SHARED = new Set([
  'GET /v1/models/{owner}/{name}/{version}', // granted to functions of others, whose authors pin the digest
  'GET /v1/blobs/{digest}', // ciphertext; the digest names it and tells nothing else
  'PUT /v1/blobs/{digest}',
  'PATCH /v1/blobs/{digest}',
]);

beforeAll(async () => {
  house = await openHouse();
  const { operator } = house;
  worker = await house.worker();
  await house.call('POST', '/v1/workers', { token: operator, body: { address: worker.address } });
  owner = await house.tenant(VICTIM);
  const other = await house.tenant('other');
  const digest = await sha256Hex(ciphertext);
  const model = await modelManifest(`${VICTIM}/m@1`, ciphertext);
  const signed = await signedFunction({ tenant: VICTIM });
  expect((await house.call('PUT', `/v1/blobs/${digest}`, { token: owner, body: ciphertext })).status).toBe(201);
  expect((await house.call('POST', '/v1/models', { token: owner, body: model })).status).toBe(201);
  expect((await house.deploy(owner, signed)).status).toBe(201);
  expect((await house.call('POST', `/f/${VICTIM}/echo/`, { body: 'x' })).status).toBe(200);
  const limits = { day: { requests: 7 } };
  await house.call('PUT', `/v1/tenants/${VICTIM}/limits`, { token: operator, body: limits });
  const made = await house.call('POST', '/v1/keys', { token: owner, body: { name: `of ${VICTIM}`, role: 'viewer' } });
  const { id } = (await made.json()) as { id: string };
  theirs = { tenant: VICTIM, owner: VICTIM, name: 'm', version: '1', id, digest, hour: '2026-11-01T13', block: '0' };

  bodies = {
    'POST /v1/tenants': { theirs: { name: VICTIM }, nobodys: { name: 'nobody' } },
    'PUT /v1/tenants/{tenant}/limits': { theirs: {}, nobodys: {} },
    'POST /v1/tokens': {
      theirs: { tenant: VICTIM, role: 'owner', ttlSeconds: 60 },
      nobodys: { tenant: 'nobody', role: 'owner', ttlSeconds: 60 },
    },
    'POST /v1/keys': {
      theirs: { name: 'x', role: 'viewer', tenant: VICTIM },
      nobodys: { name: 'x', role: 'viewer', tenant: 'nobody' },
    },
    'PUT /v1/blobs/{digest}': { theirs: ciphertext, nobodys: utf8('x') },
    'PATCH /v1/blobs/{digest}': { theirs: ciphertext, nobodys: utf8('x') },
    'POST /v1/models': { theirs: model, nobodys: await modelManifest('nobody/m@1', ciphertext) },
    'POST /v1/functions/{tenant}/{name}/versions': {
      theirs: { manifest: signed.jws, bundle: toBase64url(BUNDLE) },
      nobodys: { manifest: (await signedFunction({ tenant: 'nobody' })).jws, bundle: toBase64url(BUNDLE) },
    },
    'POST /v1/functions/{tenant}/{name}/deployments': {
      theirs: { versions: [{ version: signed.version, percent: 100 }] },
      nobodys: { versions: [{ version: '0'.repeat(64), percent: 100 }] },
    },
    'POST /v1/functions/{tenant}/{name}/rollback': {
      theirs: { version: signed.version },
      nobodys: { version: '0'.repeat(64) },
    },
    'POST /v1/workers/{id}/cordon': { theirs: { cordoned: true }, nobodys: { cordoned: true } },
    'POST /v1/workers': { theirs: { address: worker.address }, nobodys: { address: '127.0.0.1:1' } },
    'POST /v1/consents': {
      theirs: { subject: VICTIM, admitted: false },
      nobodys: { subject: 'nobody', admitted: false },
    },
  };

  for (const role of TENANT_ROLES) {
    const issued = await house.call('POST', '/v1/tokens', {
      token: operator,
      body: { tenant: 'other', role, ttlSeconds: 600 },
    });
    const key = await house.call('POST', '/v1/keys', { token: other, body: { name: role, role } });
    intruders.push(
      { name: `token of ${role}`, role, token: ((await issued.json()) as { token: string }).token },
      { name: `key of ${role}`, role, token: ((await key.json()) as { key: string }).key },
    );
  }
  const workers = await house.call('POST', '/v1/keys', { token: operator, body: { name: 'w', role: 'worker' } });
  intruders.push({ name: 'key of worker', role: 'worker', token: ((await workers.json()) as { key: string }).key });
});
afterAll(async () => {
  worker.kill();
  await house.gateway.stop();
});

interface Route {
  readonly method: string;
  readonly path: string;
  readonly key: string;
  readonly action: Action;
}
const routes = gatewayApp({ monotonicMs: () => 0 } as Gateway).routes.flatMap(({ method, path, handler }): Route[] => {
  const action = declaredAction(handler);
  if (action === undefined || action === 'anybody') return [];
  const spelt = path.replaceAll(/:(\w+)/g, '{$1}');
  return [{ method, path: spelt, key: `${method} ${spelt}`, action }];
});

async function attempt({ method, path, key }: Route, token: string, whose: 'theirs' | 'nobodys'): Promise<string> {
  const names = whose === 'theirs' ? theirs : nothing;
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => names[name] ?? '');
  const body = bodies[key]?.[whose];
  const headers = { 'upload-offset': '0' };
  const reply = await house.call(method, filled, { token, headers, ...(body === undefined ? {} : { body }) });
  return `${reply.status} ${[...reply.headers.values()].join(' ')}\n${await reply.text()}`;
}
const statusOf = (answer: string): number => Number(answer.slice(0, 3));
const bodyOf = (answer: string): string => answer.slice(answer.indexOf('\n') + 1);

test('there is a way to try each route', () => {
  expect(routes.length).toBeGreaterThan(20);
  const { paths } = openapiDocument();
  const documented = Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, told]) => 'requestBody' in told)
      .map(([method]) => `${method.toUpperCase()} ${path}`),
  );
  expect(Object.keys(bodies).toSorted()).toEqual(documented.toSorted());
  const parameters = routes.flatMap(({ path }) => [...path.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => name));
  expect(parameters.filter((name) => theirs[name] === undefined || nothing[name] === undefined)).toEqual([]);
});

test('no role of another tenant gets at anything, or learns whether it is there', async () => {
  for (const route of routes) {
    for (const { name, role, token } of intruders) {
      const what = `${name}: ${route.key}`;
      const answer = await attempt(route, token, 'theirs');
      const mayDo = (ACCESS[route.action] as readonly Role[]).includes(role);
      if (!mayDo || route.path.includes('{tenant}')) expect(statusOf(answer), what).toBe(403);
      if (SHARED.has(route.key) && mayDo) continue;
      // Workers carry the models of all tenants.
      if (role === 'worker' && mayDo) continue;
      expect(answer, what).not.toContain(VICTIM);
      expect(answer, what).not.toContain(theirs['id']);
      if (!/\{\w+\}/.test(route.path) && bodies[route.key] === undefined) continue; // a list: the same question twice
      const missing = await attempt(route, token, 'nobodys');
      expect([statusOf(answer), bodyOf(answer)], what).toEqual([statusOf(missing), bodyOf(missing)]);
    }
  }
});

test('without a token, and with one that was made up, every route is closed', async () => {
  for (const route of routes) {
    for (const token of ['', 'x', `cfn_${'0'.repeat(16)}_${'0'.repeat(72)}`])
      expect(statusOf(await attempt(route, token, 'theirs')), route.key).toBe(401);
  }
});

test('and all is as it was', async () => {
  const get = async (path: string): Promise<unknown> => (await house.call('GET', path, { token: owner })).json();
  expect(await get('/v1/keys')).toMatchObject({ keys: [{ id: theirs['id'] }] });
  expect(await get('/v1/models')).toMatchObject({ models: [{ model: `${VICTIM}/m@1` }] });
  expect(await get('/v1/functions')).toMatchObject({ functions: [{ name: 'echo' }] });
  expect(await get('/v1/usage')).toMatchObject({ usage: [{ subject: `${VICTIM}/echo`, requests: 1 }] });
  expect(await get(`/v1/tenants/${VICTIM}/limits`)).toMatchObject({ limits: { day: { requests: 7 } } });
  expect((await house.call('POST', `/f/${VICTIM}/echo/`, { body: 'x' })).status).toBe(200);
});

test('a key that was revoked, or has expired, opens none either', async () => {
  const make = async (body: object) =>
    (await (await house.call('POST', '/v1/keys', { token: owner, body })).json()) as { id: string; key: string };
  const revoked = await make({ name: 'x', role: 'owner' });
  await house.call('DELETE', `/v1/keys/${revoked.id}`, { token: owner });
  for (const route of routes.filter(({ method }) => method === 'GET'))
    expect(statusOf(await attempt(route, revoked.key, 'theirs')), route.key).toBe(401);
  expect(await codeOf(await house.call('GET', '/v1/keys', { token: revoked.key }))).toBe('401 CFN_TOKEN_INVALID');
});
