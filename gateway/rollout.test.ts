import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sealRequest } from '../client/index.ts';
import { CfnError, type SignedManifest } from '../proto/index.ts';
import { codeOf, openHouse, signedFunction, type House } from './testkit.ts';
import type { Deployment } from './store/index.ts';
import type { ThrowawayWorker } from './worker.testkit.ts';

let house: House;
let worker: ThrowawayWorker;
let token: string;
/** What loading or running a version comes to; by version. */
const refuses = new Set<string>();

beforeAll(async () => {
  house = await openHouse();
  worker = await house.worker({
    onLoad: ({ version }) => {
      if (refuses.has(version)) throw new CfnError('CFN_GRANT_MISSING', 'no grant for this version');
    },
  });
  token = await house.tenant('acme');
  await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } });
});
afterAll(async () => {
  worker.kill();
  await house.gateway.stop();
});

/** Two versions of a function of this name, the first deployed, the second uploaded. */
async function twoVersions(name: string): Promise<[SignedManifest, SignedManifest]> {
  const [one, two] = [
    await signedFunction({ name, vars: { V: '1' } }),
    await signedFunction({ name, vars: { V: '2' } }),
  ];
  expect((await house.deploy(token, one)).status).toBe(201);
  expect((await house.upload(token, two)).status).toBe(201);
  return [one, two];
}
const split = (name: string, ...versions: (readonly [SignedManifest, number])[]): Promise<Response> =>
  house.call('POST', `/v1/functions/acme/${name}/deployments`, {
    token,
    body: { versions: versions.map(([{ version }, percent]) => ({ version, percent })) },
  });
async function versionOf(name: string, headers: Record<string, string> = {}): Promise<string | null> {
  const reply = await house.call('POST', `/f/acme/${name}/`, { body: 'x', headers });
  await reply.text();
  return reply.headers.get('cfn-function-version');
}
async function listed(name: string) {
  const reply = await house.call('GET', `/v1/functions/acme/${name}/versions`, { token });
  return (await reply.json()) as {
    versions: { version: string; percent: number | null; attestedShare: number }[];
    deployment: Deployment;
  };
}

test('an upload gets no requests; a split gives each version its part; a deployment gives one all', async () => {
  const [one, two] = await twoVersions('parts');
  expect(await versionOf('parts')).toBe(one.version);
  expect((await split('parts', [one, 50], [two, 50])).status).toBe(201);
  const got = await Promise.all(Array.from({ length: 60 }, () => versionOf('parts')));
  const ofTwo = got.filter((version) => version === two.version).length;
  expect(ofTwo).toBeGreaterThan(10);
  expect(ofTwo).toBeLessThan(50);
  expect((await house.deploy(token, two)).status).toBe(200);
  expect(await Promise.all(Array.from({ length: 10 }, () => versionOf('parts')))).toEqual(Array(10).fill(two.version));
});

test('the same key gets the same version; an override gets one at 0 %, and none that is not deployed', async () => {
  const [one, two] = await twoVersions('sticky');
  await split('sticky', [one, 50], [two, 50]);
  const keys = Array.from({ length: 12 }, (_, i) => ({ 'cfn-version-key': `caller ${i}` }));
  const first = await Promise.all(keys.map((headers) => versionOf('sticky', headers)));
  expect(new Set(first).size).toBe(2);
  expect(await Promise.all(keys.map((headers) => versionOf('sticky', headers)))).toEqual(first);
  await split('sticky', [one, 100], [two, 0]);
  expect(await versionOf('sticky')).toBe(one.version);
  expect(await versionOf('sticky', { 'cfn-version-override': two.version })).toBe(two.version);
  await split('sticky', [one, 100]);
  const refused = await house.call('GET', '/f/acme/sticky/', { headers: { 'cfn-version-override': two.version } });
  expect(await codeOf(refused)).toBe('409 CFN_VERSION_MISMATCH');
  await split('sticky', [one, 50], [two, 50]);
  const long = await house.call('GET', '/f/acme/sticky/', { headers: { 'cfn-version-key': 'x'.repeat(257) } });
  expect(await codeOf(long)).toBe('400 CFN_REQUEST_MALFORMED');
});

test('a rollback serves what was before with the next request, without loading it again', async () => {
  const [one, two] = await twoVersions('back');
  await split('back', [one, 50], [two, 50]);
  await house.deploy(token, two);
  const loads = worker.loads.length;
  const reply = await house.call('POST', '/v1/functions/acme/back/rollback', { token, body: { message: 'too slow' } });
  expect(await reply.json()).toMatchObject({
    deployment: { versions: [{ version: one.version, percent: 100 }], cause: 'rollback', message: 'too slow' },
  });
  expect(await versionOf('back')).toBe(one.version);
  expect(worker.loads.length).toBe(loads);
  const history = await house.call('GET', '/v1/functions/acme/back/deployments', { token });
  const { deployments } = (await history.json()) as { deployments: Deployment[] };
  expect(deployments.map(({ cause }) => cause)).toEqual(['rollback', 'deploy', 'versions', 'deploy']);
});

test.each([
  [
    'percentages that do not make 100',
    (v: string) => ({ versions: [{ version: v, percent: 90 }] }),
    '400 CFN_INPUT_INVALID',
  ],
  [
    'a version twice',
    (v: string) => ({
      versions: [
        { version: v, percent: 50 },
        { version: v, percent: 50 },
      ],
    }),
    '400 CFN_INPUT_INVALID',
  ],
  ['a part of a percent', (v: string) => ({ versions: [{ version: v, percent: 99.5 }] }), '400 CFN_INPUT_INVALID'],
  [
    'a version of another function',
    () => ({ versions: [{ version: 'f'.repeat(64), percent: 100 }] }),
    '404 CFN_FUNCTION_NOT_FOUND',
  ],
])('%s is refused', async (_what, body, code) => {
  const one = await signedFunction({ name: 'refusing' });
  await house.deploy(token, one);
  expect(
    await codeOf(
      await house.call('POST', '/v1/functions/acme/refusing/deployments', { token, body: body(one.version) }),
    ),
  ).toBe(code);
});

test('a first version has nothing to go back to, and other tenants may not split', async () => {
  await house.deploy(token, await signedFunction({ name: 'first' }));
  expect(await codeOf(await house.call('POST', '/v1/functions/acme/first/rollback', { token, body: {} }))).toBe(
    '404 CFN_FUNCTION_NOT_FOUND',
  );
  const other = await house.tenant('other');
  for (const [method, path] of [
    ['GET', 'versions'],
    ['GET', 'deployments'],
    ['POST', 'deployments'],
    ['POST', 'rollback'],
  ] as const) {
    const reply = await house.call(method, `/v1/functions/acme/first/${path}`, { token: other });
    expect(await codeOf(reply)).toBe('403 CFN_TOKEN_SCOPE');
  }
});

describe('callers who seal', () => {
  interface Document {
    readonly function: { readonly version: string };
    readonly versions?: { version: string; percent: number; manifest: string }[];
    readonly workers: { workerId: string; versions?: string[]; evidence: { workerKeys: string } }[];
  }
  const attestation = async (name: string, more = ''): Promise<Document> =>
    (await (await house.call('GET', `/.well-known/cfn/attestation?function=acme/${name}${more}`)).json()) as Document;

  async function seal(name: string, version: string, named: string | undefined): Promise<Response> {
    const { workers } = await attestation(name);
    const workerKeys = JSON.parse(Buffer.from(workers[0]?.evidence.workerKeys ?? '', 'base64url').toString()) as never;
    const request = { method: 'POST', authority: 'x', path: '/', headers: [] };
    const exchange = await sealRequest({ workerKeys, version, request, now: new Date() });
    const parts: Uint8Array[] = [];
    for await (const part of exchange.body) parts.push(part);
    return house.call('POST', `/f/acme/${name}/`, {
      headers: {
        'content-type': 'message/ohttp-chunked-req',
        'cfn-worker': worker.workerId,
        ...(named === undefined ? {} : { 'cfn-function-version': named }),
      },
      body: Buffer.concat(parts),
    });
  }

  test('see both versions with their parts, and name the one that they sealed for', async () => {
    const [one, two] = await twoVersions('sealed');
    expect((await attestation('sealed')).versions).toBeUndefined();
    await split('sealed', [one, 90], [two, 10]);
    const document = await attestation('sealed');
    expect(document).toMatchObject({
      function: { version: one.version },
      versions: [
        { version: one.version, percent: 90, manifest: one.jws },
        { version: two.version, percent: 10, manifest: two.jws },
      ],
      workers: [{ workerId: worker.workerId, versions: [one.version, two.version] }],
    });
    for (const { version } of [one, two]) {
      const reply = await seal('sealed', version, version);
      expect([reply.status, reply.headers.get('content-type')]).toEqual([200, 'message/ohttp-chunked-res']);
      await reply.arrayBuffer();
      expect(worker.invocations.at(-1)?.version).toBe(version);
    }
    await (await seal('sealed', one.version, undefined)).arrayBuffer(); // names none: that which gets most
    expect(worker.invocations.at(-1)?.version).toBe(one.version);
  });

  test('can pin a version while it is deployed, and are told when it is not', async () => {
    const [one, two] = await twoVersions('pinned');
    await split('pinned', [one, 90], [two, 10]);
    const pinned = await attestation('pinned', `&version=${two.version}`);
    expect(pinned).toMatchObject({ function: { version: two.version } });
    expect(pinned.versions).toBeUndefined();
    await split('pinned', [one, 100]);
    const before = worker.invocations.length;
    expect(await codeOf(await seal('pinned', two.version, two.version))).toBe('409 CFN_VERSION_MISMATCH');
    const gone = await house.call('GET', `/.well-known/cfn/attestation?function=acme/pinned&version=${two.version}`);
    expect(await codeOf(gone)).toBe('409 CFN_VERSION_MISMATCH');
    expect(worker.invocations.length).toBe(before); // nothing reached a worker
  });
});

describe('a roll-out stops itself', () => {
  test('INV-40 when workers cannot serve its version: by its attested share', async () => {
    const [one, two] = await twoVersions('unattested');
    refuses.add(two.version);
    await split('unattested', [one, 50], [two, 50]);
    await expect
      .poll(
        async () => {
          await versionOf('unattested');
          return (await listed('unattested')).deployment;
        },
        { timeout: 10_000 },
      )
      .toMatchObject({
        cause: 'stopped',
        versions: [
          { version: one.version, percent: 100 },
          { version: two.version, percent: 0 },
        ],
        message: `${two.version} stopped: 0 of 1 workers that were asked can serve it: CFN_GRANT_MISSING`,
      });
    const { versions } = await listed('unattested');
    expect(versions.find(({ version }) => version === two.version)).toMatchObject({ percent: 0, attestedShare: 0 });
    expect(await Promise.all(Array.from({ length: 10 }, () => versionOf('unattested')))).toEqual(
      Array(10).fill(one.version),
    );
  });

  test('but not when there is no better one to go to', async () => {
    const [one, two] = await twoVersions('both');
    await split('both', [one, 50], [two, 50]);
    for (const { version } of [one, two]) refuses.add(version);
    worker.tell({ capacity: 100, versions: [] });
    for (let i = 0; i < 10; i++) await versionOf('both');
    expect((await listed('both')).deployment.cause).toBe('versions');
    for (const { version } of [one, two]) refuses.delete(version);
  });
});
