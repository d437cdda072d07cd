import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CfnError, sha256Hex, utf8 } from '../proto/index.ts';
import { openBlobFolder, type BlobStore } from './blob-folder.ts';

const now = (): Date => new Date();
const folder = (): string => mkdtempSync(join(tmpdir(), 'cfn-blobs-'));
async function* parts(...texts: string[]): AsyncIterable<Uint8Array> {
  for (const text of texts) yield utf8(text);
}

async function* piece(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

test('gives back what was put, by digest', async () => {
  const store = await openBlobFolder(folder(), now);
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
  const store = await openBlobFolder(dir, now);
  const digest = await sha256Hex(utf8('hello'));
  await expect(store.put(digest, parts('hellO'))).rejects.toMatchObject({ code: 'CFN_ARTIFACT_ALTERED' });
  expect(await store.get(digest)).toBeUndefined();
  expect(readdirSync(join(dir, 'incoming'))).toEqual([]);
});

test('an upload that breaks off leaves nothing', async () => {
  const dir = folder();
  const store = await openBlobFolder(dir, now);
  await expect(store.put(await sha256Hex(utf8('hello')), broken('hel'))).rejects.toThrow('gone');
  expect(readdirSync(join(dir, 'incoming'))).toEqual([]);
});

test('removes what an interrupted process left', async () => {
  const dir = folder();
  await openBlobFolder(dir, now);
  writeFileSync(join(dir, 'incoming', 'left'), 'x');
  await openBlobFolder(dir, now);
  expect(readdirSync(join(dir, 'incoming'))).toEqual([]);
});

test('a name that is no digest never becomes a path', async () => {
  const store = await openBlobFolder(folder(), now);
  await expect(store.put('../../etc/x', parts('x'))).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
});

async function* broken(...texts: string[]): AsyncIterable<Uint8Array> {
  yield* parts(...texts);
  throw new Error('gone');
}

describe('an upload that goes on', () => {
  test('takes only what is missing, also after the service was started anew', async () => {
    const dir = folder();
    const digest = await sha256Hex(utf8('hello world'));
    const first = await openBlobFolder(dir, now);
    await expect(first.resume(digest, 'acme', 0, broken('hel', 'lo'))).rejects.toThrow('gone');
    expect(await first.size(digest)).toBeUndefined();
    const store = await openBlobFolder(dir, now);
    expect(await store.begun(digest, 'acme')).toBe(5);
    await store.resume(digest, 'acme', 5, parts(' world'));
    expect(await store.size(digest)).toBe(11);
    expect(await store.begun(digest, 'acme')).toBe(0);
    expect(readdirSync(join(dir, 'incoming'))).toEqual([]);
  });

  test('is each uploader’s own', async () => {
    const store = await openBlobFolder(folder(), now);
    const digest = await sha256Hex(utf8('hello'));
    await expect(store.resume(digest, 'mallory', 0, broken('spoilt'))).rejects.toThrow('gone');
    expect(await store.begun(digest, 'acme')).toBe(0);
    await store.resume(digest, 'acme', 0, parts('hello'));
    expect(await store.size(digest)).toBe(5);
  });

  test('refuses another offset, and gives up what has another digest', async () => {
    const store = await openBlobFolder(folder(), now);
    const digest = await sha256Hex(utf8('hello'));
    await expect(store.resume(digest, 'acme', 0, broken('hel'))).rejects.toThrow('gone');
    for (const offset of [0, 2, 4])
      await expect(store.resume(digest, 'acme', offset, parts('lo'))).rejects.toMatchObject({ code: 'CFN_CONFLICT' });
    await expect(store.resume(digest, 'acme', 3, parts('LO'))).rejects.toMatchObject({ code: 'CFN_ARTIFACT_ALTERED' });
    expect(await store.begun(digest, 'acme')).toBe(0);
    expect(await store.size(digest)).toBeUndefined();
  });

  test('takes over from one that hangs', async () => {
    const store = await openBlobFolder(folder(), now);
    const digest = await sha256Hex(utf8('hello'));
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const hanging = store.resume(
      digest,
      'acme',
      0,
      (async function* () {
        yield utf8('he');
        await released;
        yield utf8('XX');
      })(),
    );
    hanging.catch(() => undefined);
    await expect.poll(() => store.begun(digest, 'acme')).toBe(2);
    const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
    const second = store.resume(
      digest,
      'acme',
      2,
      (async function* () {
        begin();
        await released;
        yield utf8('llo');
      })(),
    );
    await begun;
    release();
    await expect(hanging).rejects.toMatchObject({ code: 'CFN_CONFLICT' });
    await second;
    expect(await store.size(digest)).toBe(5);
  });

  const codeOf = (work: Promise<unknown>): Promise<unknown> =>
    work.then(
      () => 'stored',
      (error: { code?: string }) => error.code ?? error,
    );

  test('of which all has come is not written to by one that comes meanwhile', async () => {
    for (const [offset, text] of [
      [256 * 1024, 'garbage'],
      [0, 'something else'],
    ] as const) {
      const dir = folder();
      const store = await openBlobFolder(dir, now);
      const good = randomBytes(256 * 1024);
      const digest = createHash('sha256').update(good).digest('hex');
      let late: Promise<unknown> | undefined;
      const whole = async function* (): AsyncIterable<Uint8Array> {
        yield good;
        // When the first is asked for nothing more, and syncs.
        setImmediate(() => void (late = codeOf(store.resume(digest, 'acme', offset, parts(text)))));
      };
      const outcomes = [await codeOf(store.resume(digest, 'acme', 0, whole()))];
      await expect.poll(() => late).toBeDefined();
      outcomes.push(await late);
      // Whichever came through: what has the name is the blob, or there is none.
      if ((await store.size(digest)) !== undefined) {
        expect(outcomes).toEqual(['stored', 'stored']);
        expect(readFileSync(join(dir, digest)).equals(good)).toBe(true);
      } else expect(outcomes[0]).toBe('CFN_CONFLICT');
      expect(outcomes).not.toContain('CFN_STORE_FAILED');
    }
  });

  test('ends before its successor begins, which then finds what both brought', async () => {
    const store = await openBlobFolder(folder(), now);
    const bytes = randomBytes(8 * 100_000);
    const digest = createHash('sha256').update(bytes).digest('hex');
    const hanging = async function* (offset: number): AsyncIterable<Uint8Array> {
      yield bytes.subarray(offset, offset + 100_000);
      await new Promise(() => undefined);
    };
    const outcomes: Promise<unknown>[] = [];
    for (let offset = 0; offset < 700_000; offset += 100_000) {
      outcomes.push(codeOf(store.resume(digest, 'acme', offset, hanging(offset))));
      await expect.poll(() => store.begun(digest, 'acme')).toBe(offset + 100_000);
    }
    await store.resume(digest, 'acme', 700_000, piece(bytes.subarray(700_000)));
    expect(await Promise.all(outcomes)).toEqual(Array(7).fill('CFN_CONFLICT'));
    expect(await store.size(digest)).toBe(bytes.length);
  });

  test('is one for each name, of many that come at once', async () => {
    const dir = folder();
    const store = await openBlobFolder(dir, now);
    const digest = await sha256Hex(utf8('hello'));
    const outcomes = await Promise.all(
      Array.from({ length: 20 }, () => codeOf(store.resume(digest, 'acme', 0, parts('hel', 'lo')))),
    );
    expect(new Set(outcomes)).toEqual(new Set(['CFN_CONFLICT', 'stored']));
    expect(await store.size(digest)).toBe(5);
    expect(readdirSync(join(dir, 'incoming'))).toEqual([]);
  });

  describe('with much that has come', () => {
    /** So much that to read it would take longer than a test may. */
    const MUCH = 60 * 1024 ** 3;
    async function begunStore(digest: string): Promise<BlobStore> {
      const dir = folder();
      const store = await openBlobFolder(dir, now);
      await expect(store.resume(digest, 'acme', 0, broken('hel'))).rejects.toThrow('gone');
      const [name = ''] = readdirSync(join(dir, 'incoming'));
      truncateSync(join(dir, 'incoming', name), MUCH);
      return store;
    }

    test('is not read where the offset is another', async () => {
      const digest = await sha256Hex(utf8('hello'));
      const store = await begunStore(digest);
      expect(await codeOf(store.resume(digest, 'acme', 3, parts('lo')))).toBe('CFN_CONFLICT');
      expect(await store.begun(digest, 'acme')).toBe(MUCH);
    });

    test('is read no further when another takes over, or the uploader goes away', async () => {
      const digest = await sha256Hex(utf8('hello'));
      const store = await begunStore(digest);
      const gone = new AbortController();
      const first = codeOf(store.resume(digest, 'acme', MUCH, parts('lo')));
      const second = codeOf(store.resume(digest, 'acme', MUCH, parts('lo'), gone.signal));
      expect(await first).toBe('CFN_CONFLICT');
      setTimeout(() => gone.abort(new CfnError('CFN_ABORTED', 'gone')), 20);
      expect(await second).toBe('CFN_ABORTED');
      expect(await store.begun(digest, 'acme')).toBe(MUCH);
    });
  });

  test('is forgotten after a week', async () => {
    const dir = folder();
    const digest = await sha256Hex(utf8('hello'));
    const store = await openBlobFolder(dir, now);
    await expect(store.resume(digest, 'acme', 0, broken('hel'))).rejects.toThrow('gone');
    const later = (): Date => new Date(Date.now() + 8 * 24 * 3600_000);
    expect(await (await openBlobFolder(dir, later)).begun(digest, 'acme')).toBe(0);
    expect(readdirSync(join(dir, 'incoming'))).toEqual([]);
  });
});
