import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, test } from 'vitest';
import { KEYS_PER_TENANT_MAX } from '../limits.ts';
import { sqliteStore, type Store } from '../store/index.ts';
import { apiKeys, type ApiKeys } from './api-keys.ts';

const invalid = { code: 'CFN_TOKEN_INVALID' };
let path = '';
let store: Store;
let nowMs = 0;
const open = (): ApiKeys =>
  apiKeys({
    store,
    now: () => new Date(nowMs),
    randomBytes: (length) => new Uint8Array(randomBytes(length)),
    log: () => undefined,
  });
beforeEach(async () => {
  path = join(mkdtempSync(join(tmpdir(), 'cfn-keys-')), 'gateway.sqlite');
  store = sqliteStore(path);
  nowMs = Date.parse('2026-11-01T10:59:00Z');
  await store.addTenant({ name: 'acme', createdAt: '2026-11-01T00:00:00Z' });
  await store.addTenant({ name: 'other', createdAt: '2026-11-01T00:00:00Z' });
});

test('a key says who calls; the store holds its hash, and nothing of its secret', async () => {
  const { key, record } = await open().make({ name: 'ci', role: 'developer', tenant: 'acme' });
  expect(key).toMatch(/^cfn_[0-9a-f]{16}_[0-9a-f]{72}$/);
  expect(await open().verify(key)).toEqual({ role: 'developer', tenant: 'acme', sub: `key ${record.id}` });
  const operators = await open().make({ name: 'ops', role: 'operator' });
  expect(await open().verify(operators.key)).toEqual({ role: 'operator', sub: `key ${operators.record.id}` });
  await store.close();
  const secret = key.slice(21);
  expect(readFileSync(path).includes(secret) || readFileSync(`${path}-wal`, { flag: 'a+' }).includes(secret)).toBe(
    false,
  );
});

test('a key with any character changed is refused, also with its checksum made right', async () => {
  const keys = open();
  const { key } = await keys.make({ name: 'ci', role: 'owner', tenant: 'acme' });
  const flip = (text: string, at: number): string =>
    text.slice(0, at) + (text[at] === '0' ? '1' : '0') + text.slice(at + 1);
  for (let at = 4; at < key.length; at++)
    await expect(keys.verify(flip(key, at)), `at ${at}`).rejects.toMatchObject(invalid);
  const { crc32 } = await import('node:zlib');
  const body = flip(key.slice(0, -8), 30);
  await expect(keys.verify(body + crc32(body).toString(16).padStart(8, '0'))).rejects.toMatchObject(invalid);
  for (const text of ['cfn_', `${key}0`, key.toUpperCase(), key.slice(0, -1)])
    await expect(keys.verify(text)).rejects.toMatchObject(invalid);
});

test('an expired key is refused, also when it was taken a moment ago', async () => {
  const keys = open();
  const { key } = await keys.make({ name: 'x', role: 'viewer', tenant: 'acme', expiresAt: '2026-11-01T11:00:00.000Z' });
  await keys.verify(key);
  nowMs += 60_000;
  await expect(keys.verify(key)).rejects.toMatchObject(invalid);
});

test('a revoked key is refused at once', async () => {
  const here = open();
  const { key, record } = await here.make({ name: 'x', role: 'owner', tenant: 'acme' });
  await here.verify(key);
  expect(await here.revoke(record.id, 'other')).toBe(false);
  expect(await here.revoke(record.id, 'acme')).toBe(true);
  expect(await here.revoke(record.id, 'acme')).toBe(false);
  await expect(here.verify(key)).rejects.toMatchObject(invalid);
});

test('while the store is away nobody gets in', async () => {
  const keys = open();
  const { key } = await keys.make({ name: 'x', role: 'owner', tenant: 'acme' });
  await keys.verify(key);
  await store.close();
  await expect(keys.verify(key)).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
});

test('the hour of the last use is kept', async () => {
  const keys = open();
  const { key, record } = await keys.make({ name: 'x', role: 'owner', tenant: 'acme' });
  expect((await store.key(record.id))?.usedAt).toBeUndefined();
  await keys.verify(key);
  await expect.poll(async () => (await store.key(record.id))?.usedAt).toBe('2026-11-01T10:00:00.000Z');
  nowMs += 60_000;
  await keys.verify(key);
  await expect.poll(async () => (await store.key(record.id))?.usedAt).toBe('2026-11-01T11:00:00.000Z');
});

test('a tenant has no more keys than there may be', async () => {
  const keys = open();
  const make = (tenant: string) => keys.make({ name: 'x', role: 'invoker', tenant });
  for (let i = 0; i < KEYS_PER_TENANT_MAX; i++) await make('acme');
  await expect(make('acme')).rejects.toMatchObject({ code: 'CFN_QUOTA_EXCEEDED' });
  await make('other');
});
