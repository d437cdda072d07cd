import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { beforeEach, describe, expect, test } from 'vitest';
import { dataKeyInfo, sealTo, signManifest, signWithdrawal, type SignedManifest } from '../proto/index.ts';
import {
  addOwner,
  digest,
  grantOf,
  MODEL,
  newAuthor,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  type Answer,
  type Author,
  type TestKms,
} from './test-kms.ts';

let kms: TestKms;
let token: string;
let dataKey: Uint8Array;
let author: Author;
let use: SignedManifest;
beforeEach(async () => {
  kms = await startKms();
  ({ token, dataKey } = await addOwner(kms));
  author = await newAuthor();
  use = await signFunction({}, author);
  await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { author: use.author }), token);
});

const release = async (of = use, renew?: string): Promise<Answer> =>
  kms.send('POST', '/v1/release', await releaseRequest(kms, await startWorker(kms), of, renew));
const withdraw = async (of = use, by = author): Promise<Answer> =>
  kms.send('POST', '/v1/withdrawals', {
    functionManifest: of.jws,
    statement: await signWithdrawal(of.version, by.privateKey),
  });

describe('INV-23 what was withdrawn is not released again', () => {
  test('a model version: its leases end, its key is gone, and it cannot be stored anew', async () => {
    const lease = String((await release()).body['lease']);
    expect((await kms.send('DELETE', `/v1/models/${digest}`, undefined, token)).body).toEqual({ leasesRevoked: 1 });
    expect((await kms.send('GET', `/v1/leases/${lease}`)).body.code).toBe('CFN_LEASE_ENDED');
    expect((await release()).body.code).toBe('CFN_WITHDRAWN');
    const sealedKey = await sealTo(kms.deps.sealingKey.publicKey, dataKey, dataKeyInfo(digest, MODEL));
    const again = await kms.send('PUT', `/v1/models/${digest}`, { model: MODEL, sealedKey }, token);
    expect(again.body.code).toBe('CFN_WITHDRAWN');
    expect((await kms.send('GET', '/v1/models', undefined, token)).body).toMatchObject({
      models: [{ digest, withdrawnAt: expect.any(String) as string }],
    });
    expect((await kms.send('POST', '/v1/keys/rotate', undefined, token)).body).toEqual({ version: 2, models: 0 });
    expect((await release()).body.code).toBe('CFN_WITHDRAWN');
  });

  test('a model version, also when the row in the database says otherwise again', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
    try {
      kms = await startKms(join(folder, 'keyring.sqlite'));
      ({ token } = await addOwner(kms));
      await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), token);
      await kms.send('DELETE', `/v1/models/${digest}`, undefined, token);
      const database = new DatabaseSync(join(folder, 'keyring.sqlite'));
      database.exec('UPDATE models SET withdrawnAt = NULL');
      database.close();
      expect((await release()).body.code).toBe('CFN_KEYRING_ALTERED');
      kms.deps.store.close();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('a model or function version, also by a KMS that was started again', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
    const path = join(folder, 'keyring.sqlite');
    try {
      for (const what of ['function', 'model']) {
        kms = await startKms(path);
        if (what === 'function') {
          ({ token } = await addOwner(kms));
          await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { author: use.author }), token);
          await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), token);
          await withdraw();
        } else await kms.send('DELETE', `/v1/models/${digest}`, undefined, token);
        kms.deps.store.close();
        kms = await startKms(path);
        expect((await release()).body.code).toBe('CFN_WITHDRAWN');
        const other = await release(await signFunction({ vars: { A: '1' } }));
        expect(other.body.code, what).toBe(what === 'function' ? undefined : 'CFN_WITHDRAWN');
        kms.deps.store.close();
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('a stranger is not told that a model was withdrawn', async () => {
    await kms.send('DELETE', `/v1/models/${digest}`, undefined, token);
    expect((await release(await signFunction())).body.code).toBe('CFN_GRANT_MISSING');
  });

  test('a function version, by its author: its leases end, other versions go on', async () => {
    const other = await signFunction({ vars: { A: '1' } }, author);
    const [lease, kept] = [String((await release()).body['lease']), String((await release(other)).body['lease'])];
    expect((await withdraw()).body).toEqual({ leasesRevoked: 1 });
    expect((await withdraw()).body).toEqual({ leasesRevoked: 0 });
    expect((await kms.send('GET', `/v1/leases/${lease}`)).body.code).toBe('CFN_LEASE_ENDED');
    expect((await kms.send('GET', `/v1/leases/${kept}`)).status).toBe(200);
    expect((await release()).body.code).toBe('CFN_WITHDRAWN');
    expect((await release(other)).status).toBe(200);
  });

  test('a function version, also when somebody else signs the same manifest', async () => {
    await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { version: use.version }), token);
    await withdraw();
    const stranger = await newAuthor();
    const copy = await signManifest(use.manifest, stranger.privateKey, stranger.publicJwk);
    expect(copy.version).toBe(use.version);
    expect((await release(copy)).body.code).toBe('CFN_WITHDRAWN');
  });

  test('nobody else withdraws it: not another author, not for another version, not without a grant to the author', async () => {
    const stranger = await newAuthor();
    expect((await withdraw(use, stranger)).body.code).toBe('CFN_MANIFEST_ALTERED');
    const other = await signFunction({ vars: { A: '1' } }, author);
    const statement = await signWithdrawal(other.version, author.privateKey);
    const mixed = await kms.send('POST', '/v1/withdrawals', { functionManifest: use.jws, statement });
    expect(mixed.body.code).toBe('CFN_MANIFEST_ALTERED');
    const copy = await signManifest(use.manifest, stranger.privateKey, stranger.publicJwk);
    expect((await withdraw(copy, stranger)).body.code).toBe('CFN_GRANT_MISSING');
    await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { version: use.version }), token);
    await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), token);
    expect((await withdraw(copy, stranger)).body.code).toBe('CFN_GRANT_MISSING');
    expect((await release()).status).toBe(200);
  });

  test('a manifest that names one model often has its grants looked at once', async () => {
    const { store } = kms.deps;
    const asked: string[] = [];
    const grants: typeof store.grants = (of, owner) => {
      asked.push(`${owner}/${of}`);
      return store.grants(of, owner);
    };
    kms = await startKms(undefined, { store: { ...store, grants } });
    const stranger = await newAuthor();
    const named = [MODEL, 'acme/another@2', 'others/model@1'];
    const models = Array.from({ length: 15 }, (_, i) => ({
      binding: `M${i}`,
      model: named[i % named.length] ?? MODEL,
      digest,
    }));
    const often = await signFunction({ models }, stranger);
    expect((await withdraw(often, stranger)).body.code).toBe('CFN_GRANT_MISSING');
    expect(asked).toEqual([`acme/${digest}`, `others/${digest}`]);
  });

  test('a withdrawal that comes while a release is under way wins', async () => {
    const { store } = kms.deps;
    const addLease: typeof store.addLease = async (lease) => {
      await store.withdrawModel(digest, 'acme', lease.startedAt);
      return store.addLease(lease);
    };
    const slow = await startKms(undefined, { store: { ...store, addLease } });
    const answer = await slow.send('POST', '/v1/release', await releaseRequest(slow, await startWorker(slow), use));
    expect(answer.status).toBe(403);
    expect(answer.body['wrappedKey']).toBeUndefined();
  });
});
