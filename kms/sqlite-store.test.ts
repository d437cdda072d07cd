import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, describe, expect, test } from 'vitest';
import { sqliteStore } from './sqlite-store.ts';
import { addOwner, storeContract } from './store.contract.ts';
import { testAuditKey } from './audit.testkit.ts';
import { openDatabase } from './database.ts';
import type { KeyStore } from './store.ts';

const open = (path: string): KeyStore => sqliteStore(openDatabase(path), testAuditKey);
const folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('sqliteStore', () => {
  storeContract(() => open(':memory:'));

  test('a file holds what was acknowledged when the process dies without closing', async () => {
    const path = join(folder, 'kept.sqlite');
    const abandoned = open(path);
    await addOwner(abandoned, 'acme');
    const again = open(path); // the first is still open, as after a kill: only the file and its log count
    expect(await again.tokens('acme')).toHaveLength(1);
    again.close();
    abandoned.close();
  });

  test('a keyring from before invocations were counted is brought up to date, and goes on', async () => {
    const path = join(folder, 'old.sqlite');
    const before = open(path);
    await addOwner(before, 'acme');
    before.close();
    const database = new DatabaseSync(path);
    database.exec(`DROP TABLE IF EXISTS resources; DROP TABLE function_secrets; DROP TABLE secret_sets; DROP TABLE grant_counts; DROP INDEX leases_of_worker; PRAGMA user_version = 2;
      ALTER TABLE leases DROP COLUMN used; ALTER TABLE leases DROP COLUMN allowed; ALTER TABLE leases DROP COLUMN usage`);
    database.close();
    const store = open(path);
    expect(await store.count('none', 0)).toEqual({ used: 0, taken: 0, outstanding: 0 });
    expect(await store.tokens('acme')).toHaveLength(1);
    store.close();
  });

  test('a keyring whose counts began with the first use gets one for each grant, with all that was used taken', async () => {
    const path = join(folder, 'counts.sqlite');
    open(path).close();
    const database = new DatabaseSync(path);
    database.exec(`PRAGMA user_version = 5; PRAGMA foreign_keys = OFF;
      INSERT INTO grants VALUES ('used', 'd', 'o', '{}', 9, 5), ('unused', 'd', 'o', '{}', 9, 5);
      INSERT INTO grant_counts VALUES ('used', 1, 7, -80), ('removed', 1, 0, -80)`);
    database.close();
    const store = open(path);
    expect(await store.count('used', 0)).toMatchObject({ used: 7, taken: 7 });
    store.close();
    const after = new DatabaseSync(path);
    expect(after.prepare('SELECT "grant", since, used, taken FROM grant_counts ORDER BY since').all()).toEqual([
      { grant: 'used', since: 1, used: 7, taken: 7 },
      { grant: 'unused', since: 5, used: 0, taken: 0 },
    ]);
    after.close();
  });

  test('is durable: WAL, and every commit synced', () => {
    const path = join(folder, 'mode.sqlite');
    open(path).close();
    const database = new DatabaseSync(path);
    expect(database.prepare('PRAGMA journal_mode').get()?.['journal_mode']).toBe('wal');
    database.close();
  });

  test('a full disk is an error with a code; what was acknowledged stays, and it goes on when there is room', async () => {
    const path = join(folder, 'full.sqlite');
    const database = openDatabase(path);
    const store = sqliteStore(database, testAuditKey);
    const { pages = 0 } =
      database.one<{ pages: number }>('SELECT page_count AS pages FROM pragma_page_count()', {}) ?? {};
    database.all(`PRAGMA max_page_count = ${pages + 3}`, {});
    const added: string[] = [];
    const fill = async (): Promise<void> => {
      for (let i = 0; i < 1000; i++) {
        await addOwner(store, `owner-${i}`);
        added.push(`owner-${i}`);
      }
    };
    await expect(fill()).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
    expect(added.length).toBeGreaterThan(0);
    expect((await store.owners()).map(({ name }) => name).toSorted()).toEqual(added.toSorted());
    await store.checkHeads();
    database.all('PRAGMA max_page_count = 100000', {});
    expect(await addOwner(store, 'later')).toBe(true);
    store.close();
  });

  test('refuses a file that is no database, and one of another schema', () => {
    const text = join(folder, 'text.sqlite');
    writeFileSync(text, 'not a database, and long enough to have a header of its own '.repeat(20));
    expect(() => open(text)).toThrow(expect.objectContaining({ code: 'CFN_STORE_FAILED' }));
    const newer = join(folder, 'newer.sqlite');
    const database = new DatabaseSync(newer);
    database.exec('PRAGMA user_version = 99');
    database.close();
    expect(() => open(newer)).toThrow(expect.objectContaining({ code: 'CFN_STORE_FAILED' }));
  });
});
