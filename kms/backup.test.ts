import { once } from 'node:events';
import { randomBytes } from 'node:crypto';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { backUp, restore } from './backup.ts';
import { endedKms, startKmsProcess } from './kms-process.testkit.ts';
import {
  rootKey,
  addOwner,
  auditOf,
  digest,
  grantOf,
  releaseRequest,
  signFunction,
  startKms,
  startWorker,
  type TestKms,
} from './test-kms.ts';

let folder: string;
let keyring: string;
let copy: string;
let kms: TestKms;
let token: string;
let dataKey: Uint8Array;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
  keyring = join(folder, 'keyring.sqlite');
  copy = join(folder, 'copy');
  kms = await startKms(keyring);
  ({ token, dataKey } = await addOwner(kms));
  await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms), token);
});
afterEach(() => {
  kms.deps.store.close();
  rmSync(folder, { recursive: true });
});
const deps = { randomBytes, fetch, credential: () => undefined, now: () => new Date() };
const elsewhere = (): string => join(folder, 'elsewhere.sqlite');

describe('a backup', () => {
  test('is taken while the KMS runs, and restores elsewhere with the root key alone; leases end', async () => {
    const [worker, use] = [await startWorker(kms), await signFunction()];
    const { lease } = (await kms.send('POST', '/v1/release', await releaseRequest(kms, worker, use))).body;
    backUp(keyring, copy);
    await kms.send('PUT', `/v1/models/${digest}/grants`, grantOf(kms, { tenant: 'later' }), token);
    expect(await restore(copy, elsewhere(), rootKey, deps)).toBe(1);

    const restored = await startKms(elsewhere());
    expect(restored.deps.sealingKey.publicKey).toBe(kms.deps.sealingKey.publicKey);
    expect((await restored.send('GET', `/v1/leases/${String(lease)}`)).body.code).toBe('CFN_LEASE_ENDED');
    expect(await restored.deps.store.grants(digest, 'acme')).toHaveLength(1);
    const request = await releaseRequest(restored, worker, use);
    const { wrappedKey } = (await restored.send('POST', '/v1/release', request)).body;
    expect(Buffer.from(await worker.open(wrappedKey as never, request.challenge))).toEqual(dataKey);
    expect((await auditOf(restored)).map(({ decision }) => decision)).toEqual(
      expect.arrayContaining(['restored', 'revoked']),
    );
    restored.deps.store.close();
  });

  test('holds no data key, and is for nobody else to read', () => {
    const before = process.umask(0o077);
    backUp(keyring, copy);
    process.umask(before);
    expect(readFileSync(copy).includes(Buffer.from(dataKey))).toBe(false);
    expect(statSync(copy).mode & 0o777).toBe(0o600);
  });

  test('is not written over anything, and takes no keyring that is not there', () => {
    writeFileSync(copy, 'mine');
    expect(() => backUp(keyring, copy)).toThrow(expect.objectContaining({ code: 'CFN_CONFLICT' }) as Error);
    expect(readFileSync(copy, 'utf8')).toBe('mine');
    expect(() => backUp(join(folder, 'none'), join(folder, 'x'))).toThrow(
      expect.objectContaining({ code: 'CFN_STORE_FAILED' }) as Error,
    );
  });

  test('does not restore over a keyring', async () => {
    backUp(keyring, copy);
    await expect(restore(copy, keyring, rootKey, deps)).rejects.toMatchObject({ code: 'CFN_CONFLICT' });
  });

  test('does not restore under another root key, nor makes one', async () => {
    backUp(keyring, copy);
    const missing = `file:${join(folder, 'none.key')}`;
    await expect(restore(copy, elsewhere(), missing, deps)).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
    writeFileSync(join(folder, 'other.key'), randomBytes(32), { mode: 0o600 });
    const other = `file:${join(folder, 'other.key')}`;
    await expect(restore(copy, elsewhere(), other, deps)).rejects.toMatchObject({ code: 'CFN_KEYRING_ALTERED' });
    expect(await restore(copy, elsewhere(), rootKey, deps)).toBe(0); // what failed left nothing behind
  });

  test.each([100, 4096, 5000, 20_000])('that was cut at %i bytes does not restore', async (length) => {
    backUp(keyring, copy);
    writeFileSync(copy, readFileSync(copy).subarray(0, length));
    await expect(restore(copy, elsewhere(), rootKey, deps)).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
    await expect(restore(join(folder, 'none'), elsewhere(), rootKey, deps)).rejects.toMatchObject({
      code: 'CFN_STORE_FAILED',
    });
  });

  test('whose audit log was cut does not restore', async () => {
    backUp(keyring, copy);
    const database = new DatabaseSync(copy);
    database.exec("DELETE FROM audit WHERE owner = 'acme' AND seq > 1");
    database.close();
    await expect(restore(copy, elsewhere(), rootKey, deps)).rejects.toMatchObject({ code: 'CFN_AUDIT_ALTERED' });
  });
});

test('kms/main.ts backup and restore, with the root key in a file', { timeout: 120_000 }, async () => {
  const state = (name: string): string => join(folder, name);
  writeFileSync(state('policy.json'), JSON.stringify(kms.policy));
  const first = await startKmsProcess(['--state', state('a'), '--policy', state('policy.json')]);
  expect(await endedKms(['backup', '--state', state('a'), '--to', copy])).toMatchObject({ exit: 0 });
  expect(statSync(copy).mode & 0o777).toBe(0o600);
  expect(await endedKms(['backup', '--state', state('a')])).toEqual({ exit: 2, code: 'CFN_USAGE' });
  first.child.kill('SIGTERM');
  await once(first.child, 'exit');
  const [to, from] = [
    ['--state', state('b')],
    ['--from', copy],
  ];
  expect(await endedKms(['restore', ...to, ...from])).toEqual({ exit: 3, code: 'CFN_STORE_FAILED' });
  mkdirSync(state('b'), { recursive: true });
  copyFileSync(join(state('a'), 'root.key'), join(state('b'), 'root.key'));
  expect(await endedKms(['restore', ...to, ...from])).toMatchObject({ exit: 0 });
  const second = await startKmsProcess([...to, '--policy', state('policy.json')]);
  expect(second.publicKey).toBe(first.publicKey);
  second.child.kill('SIGTERM');
  expect((await once(second.child, 'exit'))[0]).toBe(0);
});
