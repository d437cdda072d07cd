import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CfnError, dataKeyInfo, sealTo } from '../proto/index.ts';
import type { RootKey } from './root-key.ts';
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
  type Answer,
  type TestKms,
} from './test-kms.ts';

let folder: string;
let path: string;
let kms: TestKms;
let owner: { token: string; dataKey: Uint8Array };
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
  path = join(folder, 'keyring.sqlite');
  kms = await startKms(path);
  owner = await addOwner(kms);
  await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), owner.token);
});
afterEach(() => {
  kms.deps.store.close();
  rmSync(folder, { recursive: true });
});

const keys = (token: string): Promise<Answer> => kms.send('GET', '/v1/keys', undefined, token);
const rotate = (token: string): Promise<Answer> => kms.send('POST', '/v1/keys/rotate', undefined, token);
/** Asks as a granted worker. @returns the data key as the worker's engine opens it, or the code */
async function release(): Promise<string | Uint8Array | undefined> {
  const worker = await startWorker(kms);
  const request = await releaseRequest(kms, worker, await signFunction());
  const { body } = await kms.send('POST', '/v1/release', request);
  return body.code ?? Uint8Array.from(await worker.open(body['wrappedKey'] as never, request.challenge));
}
const released = async (): Promise<void> => expect(await release()).toEqual(Uint8Array.from(owner.dataKey));

describe('rotation', () => {
  test("of an owner's namespace: leases go on, new ones use the new version, nothing is sent by the owner", async () => {
    const [worker, use] = [await startWorker(kms), await signFunction()];
    const { lease } = (await kms.send('POST', '/v1/release', await releaseRequest(kms, worker, use))).body;
    expect((await rotate(owner.token)).body).toEqual({ version: 2, models: 1 });
    expect((await keys(owner.token)).body).toMatchObject({
      versions: [
        { version: 1, models: 0, leasesLive: 1, retiredAt: expect.any(String) as string },
        { version: 2, models: 1, leasesLive: 0 },
      ],
    });
    const renewal = await releaseRequest(kms, worker, use, String(lease));
    expect((await kms.send('POST', '/v1/release', renewal)).status).toBe(200);
    await released();
    expect((await keys(owner.token)).body).toMatchObject({ versions: [{ leasesLive: 1 }, { leasesLive: 1 }] });
    expect((await auditOf(kms)).map(({ decision }) => decision)).toContain('keys-rotated');
  });

  test('of the root key: everything is wrapped under the new version, and opens after a restart', async () => {
    expect((await rotate(kms.admin)).body).toEqual({ version: 2, keys: 3 });
    expect((await keys(kms.admin)).body).toEqual({
      root: { kind: 'file', version: 2 },
      versions: [{ version: 2, keys: 3 }],
    });
    await released();
    kms.deps.store.close();
    kms = await startKms(path);
    await released();
    expect((await auditOf(kms, '')).map(({ decision }) => decision)).toContain('root-rotated');
  });

  test('killed between the new root key and the rewrapping: both versions open, and the next rotation ends it', async () => {
    const { rootKey, store } = kms.deps;
    let calls = 0;
    const dying: RootKey = {
      ...rootKey,
      rewrap: (...args) =>
        calls++ > 0 ? Promise.reject(new CfnError('CFN_ROOT_KEY_UNREACHABLE', 'gone')) : rootKey.rewrap(...args),
    };
    const broken = await startKms(path, { rootKey: dying, store });
    expect((await broken.send('POST', '/v1/keys/rotate', undefined, kms.admin)).body.code).toBe(
      'CFN_ROOT_KEY_UNREACHABLE',
    );
    await released();
    const { version, keys: wrapped } = (await rotate(kms.admin)).body;
    expect((await keys(kms.admin)).body['versions']).toEqual([{ version, keys: wrapped }]);
    await released();
  });

  test('of two at once, one is told; a model stored meanwhile opens afterwards', async () => {
    const other = 'e'.repeat(64);
    const sealedKey = await sealTo(kms.deps.sealingKey.publicKey, randomBytes(32), dataKeyInfo(other, 'acme/other@1'));
    const stored = kms.send('PUT', `/v1/models/${other}`, { model: 'acme/other@1', sealedKey }, owner.token);
    const answers = await Promise.all([rotate(owner.token), rotate(owner.token), stored]);
    expect(answers.filter(({ status }) => status < 300).length).toBeGreaterThanOrEqual(2);
    for (const { status, body } of answers) if (status >= 300) expect(body.code).toBe('CFN_CONFLICT');
    await rotate(owner.token); // opens every data key
    await released();
  });

  test('is for those who own: an auditor may look and not turn', async () => {
    const { token } = (await kms.send('POST', '/v1/tokens', { role: 'auditor' }, owner.token)).body;
    expect((await keys(String(token))).status).toBe(200);
    expect((await rotate(String(token))).body.code).toBe('CFN_TOKEN_SCOPE');
  });
});

describe('while the root key is gone', () => {
  test('nothing is released or stored, with its code; and again as soon as it is back', async () => {
    let gone = true;
    const failing = async (): Promise<never> => {
      throw new CfnError('CFN_ROOT_KEY_UNREACHABLE', 'the HSM is gone');
    };
    const { rootKey, store } = kms.deps;
    const flaky: RootKey = {
      ...rootKey,
      wrap: (...args) => (gone ? failing() : rootKey.wrap(...args)),
      unwrap: (...args) => (gone ? failing() : rootKey.unwrap(...args)),
    };
    kms = await startKms(path, { store, rootKey: flaky });
    expect(await release()).toBe('CFN_ROOT_KEY_UNREACHABLE');
    expect((await kms.send('POST', '/v1/owners', { name: 'new' }, kms.admin)).body.code).toBe(
      'CFN_ROOT_KEY_UNREACHABLE',
    );
    expect(await store.leases(undefined, 9)).toEqual([]);
    gone = false;
    await released();
  });
});

describe('INV-20 a wrapped key opens in its own place only', () => {
  const edit = (sql: string): void => {
    const database = new DatabaseSync(path);
    database.exec(sql);
    database.close();
  };
  const other = 'e'.repeat(64);
  beforeEach(async () => {
    const sealedKey = await sealTo(kms.deps.sealingKey.publicKey, randomBytes(32), dataKeyInfo(other, 'acme/other@1'));
    await kms.send('PUT', `/v1/models/${other}`, { model: 'acme/other@1', sealedKey }, owner.token);
    await addOwner(kms, 'mallory', 'mallory/m@1');
  });

  test.each([
    [
      "another model's key",
      `UPDATE models SET wrappedKey = (SELECT wrappedKey FROM models WHERE digest = '${other}') WHERE digest = '${digest}'`,
    ],
    [
      "another owner's key of the same digest",
      `UPDATE models SET wrappedKey = (SELECT wrappedKey FROM models WHERE owner = 'mallory') WHERE owner = 'acme' AND digest = '${digest}'`,
    ],
    [
      "another owner's key and namespace key",
      `UPDATE models SET wrappedKey = (SELECT wrappedKey FROM models WHERE owner = 'mallory') WHERE owner = 'acme' AND digest = '${digest}';
       UPDATE namespace_keys SET wrapped = (SELECT wrapped FROM namespace_keys WHERE owner = 'mallory') WHERE owner = 'acme'`,
    ],
    ['another version number', `UPDATE namespace_keys SET version = 7; UPDATE models SET keyVersion = 7`],
    ['a version that is not there', `UPDATE models SET keyVersion = 9`],
    ['a key that was emptied', `UPDATE models SET wrappedKey = x''`],
    ['a namespace key that was emptied', `UPDATE namespace_keys SET wrapped = x''`],
  ])('refuses %s in a row that was edited', async (_, sql) => {
    await released();
    edit(sql);
    expect(await release()).toBe('CFN_KEYRING_ALTERED');
  });

  test("refuses a model that was given another's reference", async () => {
    edit(
      `UPDATE models SET model = 'acme/x@1' WHERE digest = '${other}'; UPDATE models SET model = 'acme/y@1' WHERE digest = '${digest}' AND owner = 'acme'`,
    );
    const use = await signFunction({ models: [{ binding: 'DETECT', model: 'acme/y@1', digest }] });
    const request = await releaseRequest(kms, await startWorker(kms), use);
    expect((await kms.send('POST', '/v1/release', request)).body.code).toBe('CFN_KEYRING_ALTERED');
  });

  test.each([
    [
      'sealing key in the place of the audit key',
      `UPDATE secrets SET wrapped = (SELECT wrapped FROM secrets WHERE name = 'sealing'), publicKey = (SELECT publicKey FROM secrets WHERE name = 'sealing') WHERE name = 'audit'`,
    ],
    [
      'public sealing key of somebody else',
      `UPDATE secrets SET publicKey = '${'A'.repeat(43)}' WHERE name = 'sealing'`,
    ],
    ['keyring without its audit key', `DELETE FROM secrets WHERE name = 'audit'`],
  ])('does not start with the %s', async (_, sql) => {
    edit(sql);
    await expect(startKms(path)).rejects.toMatchObject({ code: 'CFN_KEYRING_ALTERED' });
  });

  test('the database holds no data key, and nothing under which one opens', async () => {
    const database = new DatabaseSync(path);
    const rows = ['models', 'namespace_keys', 'secrets', 'tokens', 'audit'].map((table) =>
      database.prepare(`SELECT * FROM ${table}`).all(),
    );
    database.close();
    const everything = JSON.stringify(rows, (_, value: unknown) =>
      value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
    );
    expect(everything).toContain(MODEL);
    expect(everything).not.toContain(Buffer.from(owner.dataKey).toString('hex'));
  });
});
