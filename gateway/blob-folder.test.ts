import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sha256Hex, utf8 } from '../proto/index.ts';
import { openBlobFolder } from './blob-folder.ts';

const folder = (): string => mkdtempSync(join(tmpdir(), 'cfn-blobs-'));
async function* parts(...texts: string[]): AsyncIterable<Uint8Array> {
  for (const text of texts) yield utf8(text);
}

test('gives back what was put, by digest', async () => {
  const store = await openBlobFolder(folder());
  const digest = await sha256Hex(utf8('hello world'));
  expect(await store.size(digest)).toBeUndefined();
  await store.put(digest, parts('hello ', 'world'));
  expect(await store.size(digest)).toBe(11);
  const held = await store.get(digest);
  const chunks: Uint8Array[] = [];
  for await (const chunk of held?.stream() ?? parts()) chunks.push(chunk);
  expect(Buffer.concat(chunks).toString()).toBe('hello world');
});

test('refuses a wrong digest and keeps nothing of it', async () => {
  const dir = folder();
  const store = await openBlobFolder(dir);
  const digest = await sha256Hex(utf8('hello'));
  await expect(store.put(digest, parts('hellO'))).rejects.toMatchObject({ code: 'CFN_ARTIFACT_ALTERED' });
  expect(await store.get(digest)).toBeUndefined();
  expect(readdirSync(join(dir, 'incoming'))).toEqual([]);
});

test('an upload that breaks off leaves nothing', async () => {
  const dir = folder();
  const store = await openBlobFolder(dir);
  async function* broken(): AsyncIterable<Uint8Array> {
    yield utf8('hel');
    throw new Error('gone');
  }
  await expect(store.put(await sha256Hex(utf8('hello')), broken())).rejects.toThrow('gone');
  expect(readdirSync(join(dir, 'incoming'))).toEqual([]);
});

test('removes what an interrupted process left', async () => {
  const dir = folder();
  await openBlobFolder(dir);
  writeFileSync(join(dir, 'incoming', 'left'), 'x');
  await openBlobFolder(dir);
  expect(readdirSync(join(dir, 'incoming'))).toEqual([]);
});

test('a name that is no digest never becomes a path', async () => {
  const store = await openBlobFolder(folder());
  await expect(store.put('../../etc/x', parts('x'))).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
});
