import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readCcel } from './ccel.ts';
import { kernelFiles } from './files.ts';
import { errno } from './tsm.testkit.ts';

let folder: string;
let files: { table: string; log: string };
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cfn-ccel-'));
  files = { table: join(folder, 'table'), log: join(folder, 'log') };
});
afterEach(() => rm(folder, { recursive: true }));

test('reads the table and the whole log area', async () => {
  const log = new Uint8Array(256 * 1024).fill(0xff);
  log.set([1, 2, 3]);
  await writeFile(files.table, new Uint8Array(56).fill(4));
  await writeFile(files.log, log);
  expect(await readCcel(files)).toEqual({ table: new Uint8Array(56).fill(4), log });
});

test('a firmware without a log has none', async () => {
  expect(await readCcel(files)).toBeUndefined();
});

test('refuses a table without its log, a log that cannot be read, and one over the limit', async () => {
  await writeFile(files.table, new Uint8Array(56));
  await expect(readCcel(files)).rejects.toMatchObject({ code: 'CFN_TEE_ABSENT', reason: 'collect/event-log-absent' });
  const denied = { ...kernelFiles, read: () => Promise.reject(errno('EACCES')) };
  await expect(readCcel({ ...files, files: denied })).rejects.toMatchObject({ reason: 'collect/event-log-absent' });
  await writeFile(files.log, new Uint8Array(1024 * 1024 + 1));
  await expect(readCcel(files)).rejects.toMatchObject({ reason: 'collect/event-log-too-large' });
  await writeFile(files.table, new Uint8Array(4097));
  await expect(readCcel(files)).rejects.toMatchObject({ reason: 'collect/event-log-too-large' });
});
