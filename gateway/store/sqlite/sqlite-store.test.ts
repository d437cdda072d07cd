import { mkdtempSync, writeFileSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, test } from 'vitest';
import { parseHour } from '../../../proto/index.ts';
import { sqliteStore } from './index.ts';
import { STEPS } from './schema.ts';
import { storeContract } from '../contract/store.contract.ts';

describe('sqliteStore', () => {
  let path = '';
  beforeEach(() => {
    path = join(mkdtempSync(join(tmpdir(), 'cfn-store-')), 'gateway.sqlite');
  });
  storeContract(() => sqliteStore(path));

  test('receipts of a file from before are summed in integers and can be sealed', async () => {
    const old = new DatabaseSync(path);
    for (const step of STEPS.slice(0, 2)) old.exec(step);
    const insert = old.prepare('INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)');
    for (const id of ['1', '2']) {
      const issuedAt = '2026-11-01T10:59:59.123Z';
      insert.run(
        id.repeat(32),
        'acme',
        'echo',
        'v',
        'w',
        issuedAt,
        id === '1' ? 'ok' : 'X',
        0.1,
        0.2,
        10,
        20,
        `r${id}`,
      );
    }
    old.exec('PRAGMA user_version = 2');
    old.close();
    const store = sqliteStore(path);
    const hour = parseHour('2026-11-01T10');
    expect(await store.receipt('1'.repeat(32))).toBe('r1');
    const counted = { engineMicroseconds: 400, engineCalls: 0, cpuMicroseconds: 200 };
    expect(await store.usage({ by: 'function', fromHour: hour, toHour: hour + 1, limit: 10 })).toEqual([
      { subject: 'acme/echo', requests: 2, failed: 1, ...counted, requestBytes: 20, responseBytes: 40, egressBytes: 0 },
    ]);
    expect(await store.unsealedHours(hour + 1)).toEqual([hour]);
    await store.close();
  });

  test('refuses a file that is no database', () => {
    writeFileSync(path, 'x'.repeat(4096));
    expect(() => sqliteStore(path)).toThrowError(expect.objectContaining({ code: 'CFN_STORE_FAILED' }) as Error);
  });
});
