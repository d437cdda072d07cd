import { randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  decodeSecrets,
  generateSealingKeyPair,
  openSealed,
  sealTo,
  SECRET_BYTES_MAX,
  secretInfo,
  SECRETS_MAX,
  secretsId,
  secretsNonce,
  signWithdrawal,
  toBase64url,
  wrappedSecretsInfo,
  type FunctionManifest,
  type PutSecrets,
  type SecretsReply,
  type SecretsRequest,
  type SignedManifest,
} from '../proto/index.ts';
import {
  addOwner,
  auditOf,
  newAuthor,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  strangePlatform,
  type Answer,
  type Author,
  type TestKms,
  type TestWorker,
} from './test-kms.ts';

const PATH = '/v1/functions/tenant/ocr/secrets';
const VALUE = 'sk-ünicode-£42';

let kms: TestKms;
let token: string;
let author: Author;
let use: SignedManifest;
let worker: TestWorker;
let sandbox: Awaited<ReturnType<typeof generateSealingKeyPair>>;
beforeEach(async () => {
  kms = await startKms();
  ({ token } = await addOwner(kms));
  author = await newAuthor();
  use = await functionWith(['API_KEY']);
  worker = await startWorker(kms);
  sandbox = await generateSealingKeyPair();
});

const functionWith = (
  names: string[],
  change: Partial<FunctionManifest> = {},
  by = author,
  owner = 'acme',
): Promise<SignedManifest> =>
  signFunction(
    {
      models: [],
      secrets: { kms: { url: 'http://kms', publicKey: kms.deps.sealingKey.publicKey }, owner, names },
      ...change,
    },
    by,
  );
async function sealed(name: string, value: string, owner = 'acme'): Promise<PutSecrets['secrets']> {
  const info = secretInfo(await secretsId(owner, 'tenant', 'ocr'), name);
  return { [name]: await sealTo(kms.deps.sealingKey.publicKey, Buffer.from(value), info) };
}
const put = async (change: Partial<PutSecrets> = {}, by = token): Promise<Answer> =>
  kms.send(
    'PUT',
    PATH,
    { author: use.author, leaseMs: 60_000, secrets: await sealed('API_KEY', VALUE), ...change },
    by,
  );
async function request(of = use, renew?: string): Promise<SecretsRequest> {
  const challenge = String((await kms.send('POST', '/v1/challenge')).body['challenge']);
  const evidence = await worker.collect(await secretsNonce(challenge, sandbox.publicKey, of.jws));
  const asked = { challenge, functionManifest: of.jws, wrappingKey: sandbox.publicKey, evidence };
  return renew === undefined ? asked : { ...asked, renew };
}
const ask = async (change: Partial<SecretsRequest> = {}, of = use, renew?: string): Promise<Answer> =>
  kms.send('POST', '/v1/secrets', { ...(await request(of, renew)), ...change });
const codeOf = async (answer: Promise<Answer>): Promise<string | undefined> => (await answer).body.code;
async function openedBy(asked: SecretsRequest, of = use): Promise<unknown> {
  const { wrapped } = (await kms.send('POST', '/v1/secrets', asked)).body as unknown as SecretsReply;
  if (wrapped === undefined) throw new Error('no secrets in the answer');
  const bytes = await openSealed(sandbox.privateKey, wrapped, wrappedSecretsInfo(of.version, asked.challenge));
  return decodeSecrets(bytes);
}
async function expectRefused(answer: Answer | Promise<Answer>, code: string): Promise<void> {
  const { body } = await answer;
  expect(body.code).toBe(code);
  expect(body['wrapped']).toBeUndefined();
  expect(await kms.deps.store.leases(undefined, 9)).toEqual([]);
  const entries = [...(await auditOf(kms)), ...(await auditOf(kms, ''))];
  expect(entries).toContainEqual(expect.objectContaining({ decision: 'refused', code }));
}

describe('INV-27 secrets of a function', () => {
  test('go to an attested worker that runs it, sealed to its sandbox, under a lease', async () => {
    await put();
    const asked = await request();
    expect(await openedBy(asked)).toEqual({ API_KEY: VALUE });
    const [lease] = await kms.deps.store.leases('acme', 9);
    const digest = await secretsId('acme', 'tenant', 'ocr');
    expect(lease).toMatchObject({ digest, owner: 'acme', version: use.version, worker: worker.id, tee: 'simulated' });
    expect((await kms.send('GET', `/v1/leases/${lease?.id}`)).body).toMatchObject({ live: true });
    expect((await auditOf(kms))[0]).toMatchObject({
      decision: 'released',
      digest,
      function: 'ocr',
      version: use.version,
    });
  });

  test('those alone that the manifest names', async () => {
    await put({ secrets: { ...(await sealed('API_KEY', VALUE)), ...(await sealed('OTHER', 'not for this version')) } });
    expect(await openedBy(await request())).toEqual({ API_KEY: VALUE });
    use = await functionWith(['OTHER', 'API_KEY']);
    expect(await openedBy(await request())).toEqual({ API_KEY: VALUE, OTHER: 'not for this version' });
  });

  test('stay readable after the namespace key was rotated', async () => {
    await put();
    expect((await kms.send('POST', '/v1/keys/rotate', {}, token)).body).toMatchObject({ version: 2 });
    expect(await openedBy(await request())).toEqual({ API_KEY: VALUE });
    expect((await kms.send('POST', '/v1/keys/rotate', {}, kms.admin)).status).toBe(200);
    expect(await openedBy(await request())).toEqual({ API_KEY: VALUE });
  });

  test('are listed by name, for the owner and an auditor, and no answer, log or audit entry holds a value', async () => {
    const answers = [await put(), await ask(), await kms.send('GET', PATH, undefined, token)];
    expect(answers[2]?.body['secrets']).toMatchObject([{ name: 'API_KEY', author: use.author, leaseMs: 60_000 }]);
    const auditor = String((await kms.send('POST', '/v1/tokens', { role: 'auditor' }, token)).body['token']);
    expect((await kms.send('GET', PATH, undefined, auditor)).status).toBe(200);
    expect((await put({}, auditor)).body.code).toBe('CFN_TOKEN_SCOPE');
    const everything = JSON.stringify([answers, kms.logs, await auditOf(kms), await auditOf(kms, '')]);
    for (const form of ['utf8', 'hex', 'base64url', 'base64'] as const)
      expect(everything).not.toContain(Buffer.from(VALUE).toString(form));
  });

  test('are nowhere in the keyring files but wrapped, and a row put in the place of another does not open', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
    try {
      const path = join(folder, 'keyring.sqlite');
      kms = await startKms(path);
      ({ token } = await addOwner(kms));
      use = await functionWith(['API_KEY']);
      const mallory = await newAuthor();
      await put();
      await put({ secrets: await sealed('OTHER', 'another value') });
      for (const file of readdirSync(folder))
        for (const value of [VALUE, 'another value'])
          expect(readFileSync(join(folder, file)).includes(value)).toBe(false);
      const database = new DatabaseSync(path);
      const stolen = await functionWith(['API_KEY'], {}, mallory);
      database.prepare(`UPDATE function_secrets SET author = ?`).run(stolen.author);
      expect(await codeOf(ask({}, stolen))).toBe('CFN_KEYRING_ALTERED');
      database.prepare(`UPDATE function_secrets SET author = ?`).run(use.author);
      database
        .prepare(
          `UPDATE function_secrets SET wrapped = (SELECT wrapped FROM function_secrets WHERE name = 'OTHER') WHERE name = 'API_KEY'`,
        )
        .run();
      expect(await codeOf(ask())).toBe('CFN_KEYRING_ALTERED');
      database.close();
      kms.deps.store.close();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  describe('are refused', () => {
    test('when there are none, another name is asked for, or the manifest names none', async () => {
      await expectRefused(ask(), 'CFN_SECRET_MISSING');
      await put();
      await expectRefused(ask({}, await functionWith(['API_KEY', 'OTHER'])), 'CFN_SECRET_MISSING');
      await expectRefused(ask({}, await signFunction({ models: [] }, author)), 'CFN_SECRET_MISSING');
    });

    test('to what another author signed, in the same words as where there are none', async () => {
      const thief = await functionWith(['API_KEY'], {}, await newAuthor());
      const before = await ask({}, thief);
      await put();
      const after = await ask({}, thief);
      await expectRefused(after, 'CFN_SECRET_MISSING');
      expect(after).toEqual(before);
    });

    test('to another version, where one was named', async () => {
      await put({ version: 'e'.repeat(64) });
      await expectRefused(ask(), 'CFN_SECRET_MISSING');
      await put({ version: use.version });
      expect((await ask()).status).toBe(200);
    });

    test('to another function or tenant, and to a manifest that names another KMS or namespace', async () => {
      await put();
      await expectRefused(ask({}, await functionWith(['API_KEY'], { name: 'other' })), 'CFN_SECRET_MISSING');
      await expectRefused(ask({}, await functionWith(['API_KEY'], { tenant: 'other' })), 'CFN_SECRET_MISSING');
      await addOwner(kms, 'mallory', 'mallory/m@1');
      await expectRefused(ask({}, await functionWith(['API_KEY'], {}, author, 'mallory')), 'CFN_SECRET_MISSING');
      const elsewhere = { url: 'http://kms', publicKey: toBase64url(randomBytes(32)) };
      const moved = await functionWith([], { secrets: { kms: elsewhere, owner: 'acme', names: ['API_KEY'] } });
      await expectRefused(ask({}, moved), 'CFN_SECRET_MISSING');
    });

    test('with a challenge that is unknown or was used', async () => {
      await put();
      await expectRefused(ask({ challenge: toBase64url(randomBytes(32)) }), 'CFN_CHALLENGE_INVALID');
      const asked = await request();
      expect((await kms.send('POST', '/v1/secrets', asked)).status).toBe(200);
      expect(await codeOf(kms.send('POST', '/v1/secrets', asked))).toBe('CFN_CHALLENGE_INVALID');
    });

    test('with a wrapping key or manifest put in after the evidence was made, or evidence made for a model', async () => {
      await put();
      const thief = await generateSealingKeyPair();
      await expectRefused(ask({ wrappingKey: thief.publicKey }), 'CFN_NONCE_MISMATCH');
      const other = await functionWith(['API_KEY'], { vars: { A: '1' } });
      await expectRefused(ask({ functionManifest: other.jws }), 'CFN_NONCE_MISMATCH');
      const { challenge, wrappingKey, evidence } = await releaseRequest(kms, worker, use);
      await expectRefused(ask({ challenge, wrappingKey, evidence }), 'CFN_NONCE_MISMATCH');
    });

    test('to a worker of another image or under another root', async () => {
      await put();
      worker = await startWorker(kms, new Uint8Array(48).fill(0x66));
      await expectRefused(ask(), 'CFN_MEASUREMENT_UNKNOWN');
      worker = await startWorker(kms, undefined, await strangePlatform());
      await expectRefused(ask(), 'CFN_CHAIN_UNTRUSTED');
    });

    test('to a version that its author withdrew, whose leases end', async () => {
      await put();
      const lease = String((await ask()).body['lease']);
      const statement = await signWithdrawal(use.version, author.privateKey);
      const withdrawn = await kms.send('POST', '/v1/withdrawals', { functionManifest: use.jws, statement });
      expect(withdrawn.body).toEqual({ leasesRevoked: 1 });
      expect(await codeOf(kms.send('GET', `/v1/leases/${lease}`))).toBe('CFN_LEASE_ENDED');
      expect(await codeOf(ask())).toBe('CFN_WITHDRAWN');
    });

    test('when they are changed while the release is under way', async () => {
      await put();
      const { store } = kms.deps;
      const addLease: typeof store.addLease = async (lease) => {
        await store.deleteFunctionSecret(lease.digest, 'API_KEY', 'f'.repeat(32), lease.startedAt);
        return store.addLease(lease);
      };
      const slow = await startKms(undefined, { store: { ...store, addLease } });
      const challenge = String((await slow.send('POST', '/v1/challenge')).body['challenge']);
      const evidence = await worker.collect(await secretsNonce(challenge, sandbox.publicKey, use.jws));
      const asked = { challenge, functionManifest: use.jws, wrappingKey: sandbox.publicKey, evidence };
      await expectRefused(slow.send('POST', '/v1/secrets', asked), 'CFN_BUSY');
    });
  });

  test('a change or a deletion revokes the leases; what was deleted is not released again', async () => {
    await put();
    const first = String((await ask()).body['lease']);
    expect((await put({ secrets: await sealed('API_KEY', 'newer') })).body).toEqual({ leasesRevoked: 1 });
    expect(await codeOf(kms.send('GET', `/v1/leases/${first}`))).toBe('CFN_LEASE_ENDED');
    expect(await openedBy(await request())).toEqual({ API_KEY: 'newer' });
    const gone = await kms.send('DELETE', `${PATH}/API_KEY`, undefined, token);
    expect(gone.body).toEqual({ leasesRevoked: 1 });
    expect(await codeOf(ask())).toBe('CFN_SECRET_MISSING');
    expect(await codeOf(kms.send('DELETE', `${PATH}/API_KEY`, undefined, token))).toBe('CFN_NOT_FOUND');
    const decisions = (await auditOf(kms)).map(({ decision, subject }) => [decision, subject]);
    expect(decisions).toContainEqual(['secrets-put', 'API_KEY']);
    expect(decisions).toContainEqual(['secret-deleted', 'API_KEY']);
  });

  test('a lease is renewed without secrets in the answer, for the same worker, version and revision', async () => {
    await put();
    const lease = String((await ask()).body['lease']);
    kms.clock.offsetMs += 50_000;
    const renewed = await ask({}, use, lease);
    expect(renewed.body).toMatchObject({ lease });
    expect(renewed.body['wrapped']).toBeUndefined();
    kms.clock.offsetMs += 50_000;
    expect((await kms.send('GET', `/v1/leases/${lease}`)).status).toBe(200);
    expect(await codeOf(ask({}, await functionWith(['API_KEY'], { vars: { A: '1' } }), lease))).toBe('CFN_LEASE_ENDED');
    const stranger = worker;
    worker = await startWorker(kms);
    expect(await codeOf(ask({}, use, lease))).toBe('CFN_LEASE_ENDED');
    worker = stranger;
    await put();
    expect(await codeOf(ask({}, use, lease))).toBe('CFN_LEASE_ENDED');
  });

  test('are of one namespace: the token of another, or the administrator, neither sees nor changes them', async () => {
    await put();
    const mallory = (await addOwner(kms, 'mallory', 'mallory/m@1')).token;
    expect((await kms.send('GET', PATH, undefined, mallory)).body).toEqual({ secrets: [] });
    expect(await codeOf(kms.send('DELETE', `${PATH}/API_KEY`, undefined, mallory))).toBe('CFN_NOT_FOUND');
    // Sealed for acme's function, it does not open as mallory's.
    expect((await put({}, mallory)).body.code).toBe('CFN_INPUT_INVALID');
    for (const [method, path] of [
      ['GET', PATH],
      ['PUT', PATH],
      ['DELETE', `${PATH}/API_KEY`],
    ] as const) {
      expect(await codeOf(kms.send(method, path, undefined, kms.admin))).toBe('CFN_TOKEN_SCOPE');
      expect((await kms.send(method, path, undefined, 'x')).status).toBe(401);
    }
    expect(await openedBy(await request())).toEqual({ API_KEY: VALUE });
  });

  test('are bounded in length and number', async () => {
    expect((await put({ secrets: await sealed('A', 'x'.repeat(SECRET_BYTES_MAX)) })).status).toBe(200);
    expect((await put({ secrets: await sealed('A', 'x'.repeat(SECRET_BYTES_MAX + 1)) })).body.code).toBe(
      'CFN_INPUT_INVALID',
    );
    expect((await put({ secrets: {} })).body.code).toBe('CFN_INPUT_INVALID');
    expect((await put({ secrets: await sealed('NOT-A-NAME', 'x') })).body.code).toBe('CFN_INPUT_INVALID');
    let many = {};
    for (let i = 0; i < SECRETS_MAX; i++) many = { ...many, ...(await sealed(`B${i}`, '')) };
    expect((await put({ secrets: many })).body.code).toBe('CFN_QUOTA_EXCEEDED');
    expect((await kms.send('GET', PATH, undefined, token)).body['secrets']).toHaveLength(1);
  });
});
