import { afterEach, beforeEach, expect, test } from 'vitest';
import { CfnError } from '../proto/index.ts';
import { openDatabase, type Database } from './database.ts';

let database: Database;
beforeEach(() => {
  database = openDatabase(':memory:');
});
afterEach(() => database.close());

const add = (name: string): Promise<string> =>
  database.transact(() => {
    database.run('INSERT INTO owners (name, addedAt) VALUES (:name, 0)', { name });
    return name;
  });
const names = (): unknown[] =>
  database.all<{ name: string }>('SELECT name FROM owners ORDER BY name', {}).map(({ name }) => name);

test('transactions that wait together are one commit, and one that fails undoes itself alone', async () => {
  let commits = 0;
  database.beforeCommit(() => void commits++);
  const told: string[] = [];
  const failing = database.transact(() => {
    database.run(`INSERT INTO owners (name, addedAt) VALUES ('undone', 0)`, {});
    database.afterCommit(() => told.push('undone'));
    throw new CfnError('CFN_CONFLICT', 'no');
  });
  const good = database.transact(() => {
    database.afterCommit(() => told.push(`good, with ${names().length} names on the disk`));
    return 'c';
  });
  const results = await Promise.allSettled([add('a'), failing, add('a'), add('b'), good]);
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'fulfilled', 'fulfilled']);
  expect(results[1]).toMatchObject({ reason: { code: 'CFN_CONFLICT' } });
  expect(results[2]).toMatchObject({ reason: { code: 'CFN_STORE_FAILED' } }); // the name is taken
  expect(names()).toEqual(['a', 'b']);
  expect(told).toEqual(['good, with 2 names on the disk']);
  expect(commits).toBe(1);
});

test('a commit that fails is acknowledged to nobody, and undoes all of it', async () => {
  let fails = true;
  database.beforeCommit(() => {
    if (fails) throw new Error('the disk is full');
  });
  const told: string[] = [];
  const results = await Promise.allSettled([
    add('a'),
    database.transact(() => database.afterCommit(() => told.push('told'))),
  ]);
  expect(results).toMatchObject([{ reason: { code: 'CFN_STORE_FAILED' } }, { reason: { code: 'CFN_STORE_FAILED' } }]);
  expect(names()).toEqual([]);
  expect(told).toEqual([]);
  fails = false;
  expect(await add('a')).toBe('a');
  expect(names()).toEqual(['a']);
});

test('what waits is committed before it is closed', async () => {
  const adding = add('a');
  database.close();
  expect(await adding).toBe('a');
  database = openDatabase(':memory:');
});
