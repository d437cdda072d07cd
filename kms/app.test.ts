import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, describe, expect, test } from 'vitest';
import { dataKeyInfo, sealTo } from '../proto/index.ts';
import { RELEASE_BODY_BYTES_MAX, SMALL_BODY_BYTES_MAX } from './limits.ts';
import {
  addOwner,
  auditOf,
  digest,
  grantOf,
  MODEL,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  type TestKms,
} from './test-kms.ts';

let kms: TestKms;
beforeEach(async () => {
  kms = await startKms();
});
const sealed = async (key: Uint8Array, info = digest, to = kms, model = MODEL): Promise<object> =>
  sealTo(to.deps.sealingKey.publicKey, key, dataKeyInfo(info, model));

describe('owners', () => {
  test('are made by the administrator only, once each', async () => {
    const made = await kms.send('POST', '/v1/owners', { name: 'acme' }, kms.admin);
    expect(made).toMatchObject({
      status: 201,
      body: { token: expect.stringMatching(/^acme\.[A-Za-z0-9_-]{43}$/) as string },
    });
    expect((await kms.send('POST', '/v1/owners', { name: 'acme' }, kms.admin)).body.code).toBe('CFN_CONFLICT');
    expect((await kms.send('POST', '/v1/owners', { name: 'b' }, String(made.body['token']))).body.code).toBe(
      'CFN_TOKEN_SCOPE',
    );
    expect((await kms.send('POST', '/v1/owners', { name: 'Not a name' }, kms.admin)).body.code).toBe(
      'CFN_INPUT_INVALID',
    );
  });

  test.each([undefined, 'x', 'acme.', `acme.${'A'.repeat(43)}`, `nobody.${'A'.repeat(43)}`, 'B'.repeat(43)])(
    'token %s is refused on every route that needs one',
    async (token) => {
      await addOwner(kms);
      const routes = [
        ['POST', '/v1/owners'],
        ['PUT', `/v1/models/${digest}`],
        ['GET', '/v1/models'],
        ['PUT', `/v1/models/${digest}/grants`],
        ['GET', `/v1/models/${digest}/grants`],
        ['DELETE', `/v1/models/${digest}/grants/x`],
        ['GET', '/v1/leases'],
        ['DELETE', '/v1/leases/x'],
      ] as const;
      for (const [method, path] of routes)
        expect(await kms.send(method, path, undefined, token)).toMatchObject({ status: 401 });
    },
  );

  test('only the digest of a token is stored', async () => {
    const { token } = await addOwner(kms);
    expect((await kms.deps.store.tokens('acme'))[0]?.digest).toHaveLength(32);
    expect(JSON.stringify([kms.logs, await auditOf(kms), await auditOf(kms, '')])).not.toContain(token);
  });
});

describe('models', () => {
  test('are stored under their owner, and again without change', async () => {
    const { token, dataKey } = await addOwner(kms);
    const again = { model: MODEL, sealedKey: await sealed(dataKey) };
    expect((await kms.send('PUT', `/v1/models/${digest}`, again, token)).status).toBe(200);
    const other = { model: MODEL, sealedKey: await sealed(randomBytes(32)) };
    expect((await kms.send('PUT', `/v1/models/${digest}`, other, token)).body.code).toBe('CFN_CONFLICT');
    const { models } = (await kms.send('GET', '/v1/models', undefined, token)).body;
    expect(models).toEqual([{ digest, model: MODEL, storedAt: expect.any(String) as string }]);
  });

  test("of another owner cannot be stored, seen, granted or revoked with one's own token", async () => {
    const acme = await addOwner(kms);
    await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), acme.token);
    const released = await kms.send(
      'POST',
      '/v1/release',
      await releaseRequest(kms, await startWorker(kms), await signFunction()),
    );
    const lease = String(released.body['lease']);
    const mallory = String((await kms.send('POST', '/v1/owners', { name: 'mallory' }, kms.admin)).body['token']);
    const body = { model: MODEL, sealedKey: await sealed(randomBytes(32)) };
    expect((await kms.send('PUT', `/v1/models/${digest}`, body, mallory)).body.code).toBe('CFN_TOKEN_SCOPE');
    expect((await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), mallory)).body.code).toBe(
      'CFN_MODEL_NOT_FOUND',
    );
    expect((await kms.send('GET', `/v1/models/${digest}/grants`, undefined, mallory)).body.code).toBe(
      'CFN_MODEL_NOT_FOUND',
    );
    expect((await kms.send('GET', '/v1/models', undefined, mallory)).body).toEqual({ models: [] });
    expect((await kms.send('GET', '/v1/leases', undefined, mallory)).body).toEqual({ leases: [] });
    expect((await kms.send('DELETE', `/v1/leases/${lease}`, undefined, mallory)).body.code).toBe('CFN_NOT_FOUND');
    expect((await kms.send('GET', `/v1/leases/${lease}`)).status).toBe(200);
    expect((await kms.send('DELETE', `/v1/leases/${lease}`, undefined, kms.admin)).status).toBe(200);
    expect((await kms.send('GET', `/v1/leases/${lease}`)).body.code).toBe('CFN_LEASE_ENDED');
  });

  test('need a key that opens: sealed to this KMS, for this model, of 32 bytes', async () => {
    const { token } = await addOwner(kms);
    const other = await startKms();
    const keys = [
      await sealed(randomBytes(32), 'e'.repeat(64)),
      await sealed(randomBytes(32), digest, other),
      await sealed(randomBytes(16)),
      await sealed(randomBytes(32), digest, kms, 'mallory/m@1'), // taken from another owner's call
    ];
    for (const sealedKey of keys) {
      const answer = await kms.send('PUT', `/v1/models/${digest}`, { model: MODEL, sealedKey }, token);
      expect(answer.body.code).toBe('CFN_INPUT_INVALID');
    }
  });
});

describe('grants', () => {
  test('are listed, replaced by granting again, and removed', async () => {
    const { token } = await addOwner(kms);
    const path = `/v1/models/${digest}/grants`;
    const first = await kms.send('PUT', path, grantOf(kms), token);
    const second = await kms.send('PUT', path, grantOf(kms, { leaseMs: 5000 }), token);
    expect(second.body['id']).toBe(first.body['id']);
    const invocations = { used: 0, taken: 0, outstanding: 0 };
    expect((await kms.send('GET', path, undefined, token)).body).toEqual({ grants: [{ ...second.body, invocations }] });
    expect((await kms.send('DELETE', `${path}/${String(first.body['id'])}`, undefined, token)).status).toBe(200);
    expect((await kms.send('DELETE', `${path}/${String(first.body['id'])}`, undefined, token)).body.code).toBe(
      'CFN_NOT_FOUND',
    );
    expect((await kms.send('GET', path, undefined, token)).body).toEqual({ grants: [] });
  });

  test('refuse unknown members and a lease out of bounds', async () => {
    const { token } = await addOwner(kms);
    for (const change of [{ everybody: true }, { leaseMs: 1 }, { leaseMs: 86_400_001 }, { until: 'tomorrow' }]) {
      const answer = await kms.send('PUT', `/v1/models/${digest}/grants`, { ...grantOf(kms), ...change }, token);
      expect(answer.body.code).toBe('CFN_INPUT_INVALID');
    }
  });
});

describe('keyring', () => {
  test('keys, grants and leases outlive the process', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
    try {
      const path = join(folder, 'keyring.sqlite');
      const first = await startKms(path);
      const { token, dataKey } = await addOwner(first);
      await first.send('PUT', `/v1/models/${digest}/grants`, grantOf(first), token);
      const [worker, use] = [await startWorker(first), await signFunction()];
      const { lease } = (await first.send('POST', '/v1/release', await releaseRequest(first, worker, use))).body;

      const second = await startKms(path); // the first is never closed, as after a kill
      expect(second.deps.sealingKey.publicKey).toBe(first.deps.sealingKey.publicKey);
      expect((await second.send('GET', `/v1/leases/${String(lease)}`)).body['live']).toBe(true);
      expect(
        (await second.send('POST', '/v1/release', await releaseRequest(second, worker, use, String(lease)))).status,
      ).toBe(200);
      const request = await releaseRequest(second, worker, use);
      const { wrappedKey } = (await second.send('POST', '/v1/release', request)).body;
      expect(Buffer.from(await worker.open(wrappedKey as never, request.challenge))).toEqual(dataKey);
      const early = await releaseRequest(first, worker, use);
      expect((await second.send('POST', '/v1/release', early)).body.code).toBe('CFN_CHALLENGE_INVALID');

      const database = new DatabaseSync(path);
      const row = database.prepare('SELECT wrappedKey FROM models').get() as { wrappedKey: Uint8Array };
      expect(Buffer.from(row.wrappedKey).includes(Buffer.from(dataKey))).toBe(false);
      row.wrappedKey[20] = (row.wrappedKey[20] ?? 0) ^ 1;
      database.prepare('UPDATE models SET wrappedKey = ?').run(row.wrappedKey);
      database.close();
      const tampered = await second.send('POST', '/v1/release', await releaseRequest(second, worker, use));
      expect(tampered).toMatchObject({ status: 500, body: { code: 'CFN_KEYRING_ALTERED' } });
      for (const { deps } of [first, second]) deps.store.close();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('calls', () => {
  test('answer unknown routes and wrong bodies with problems', async () => {
    const response = await kms.app.request('/v1/nothing');
    expect(response.headers.get('content-type')).toBe('application/problem+json');
    expect(await response.json()).toMatchObject({ code: 'CFN_NOT_FOUND', status: 404 });
    const text = await kms.app.request('/v1/release', { method: 'POST', body: 'not json' });
    expect(await text.json()).toMatchObject({ code: 'CFN_INPUT_INVALID' });
    expect((await kms.send('POST', '/v1/release', {})).body.code).toBe('CFN_INPUT_INVALID');
  });

  test('are limited in size, whatever the length header says', async () => {
    const release = (body: BodyInit, headers = {}): Promise<Response> =>
      Promise.resolve(kms.app.request('/v1/release', { method: 'POST', body, headers, duplex: 'half' } as RequestInit));
    const large = new Uint8Array(RELEASE_BODY_BYTES_MAX + 1);
    const endless = (): ReadableStream =>
      new ReadableStream({ pull: (controller) => controller.enqueue(large.slice(0, 65_536)) });
    for (const answer of [
      await release(large),
      await release(endless()),
      await release(endless(), { 'content-length': '5' }),
    ]) {
      expect(await answer.json()).toMatchObject({ code: 'CFN_BODY_TOO_LARGE' });
    }
    const name = 'a'.repeat(SMALL_BODY_BYTES_MAX);
    expect((await kms.send('POST', '/v1/owners', { name }, kms.admin)).body.code).toBe('CFN_BODY_TOO_LARGE');
  });

  test('are logged by route, status and code alone', async () => {
    await kms.send('GET', '/v1/leases/some-lease-id');
    expect(kms.logs).toEqual([
      {
        method: 'GET',
        route: '/v1/leases/:id',
        status: 403,
        code: 'CFN_LEASE_ENDED',
        durationMs: expect.any(Number) as number,
      },
    ]);
  });

  test('beyond the appraisals at once are told to come back', async () => {
    let finish: (() => void) | undefined;
    const gate = new Promise<void>((resolve) => (finish = resolve));
    const { appraise } = kms.deps;
    const slow = await startKms(undefined, { appraise: async (...args) => (await gate, appraise(...args)) });
    const [worker, use] = [await startWorker(slow), await signFunction()];
    const requests = await Promise.all(Array.from({ length: 17 }, () => releaseRequest(slow, worker, use)));
    const answers = requests.map((request) => slow.send('POST', '/v1/release', request));
    expect((await Promise.race(answers)).body.code).toBe('CFN_BUSY');
    finish?.();
    const codes = (await Promise.all(answers)).map(({ body }) => body.code);
    expect(codes.filter((code) => code === 'CFN_GRANT_MISSING')).toHaveLength(16);
  });
});
