import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { CfnError, sha256Hex, utf8 } from '../proto/index.ts';
import { begunName } from './begun-uploads.ts';
import { BEGUN_BYTES_MAX, SWEEP } from './limits.ts';
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

  test('is forgotten after a week in a process that goes on, until that is closed', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    try {
      const dir = folder();
      let ms = Date.now();
      const store = await openBlobFolder(dir, () => new Date(ms));
      const begin = (by: string): Promise<void> =>
        expect(store.resume('a'.repeat(64), by, 0, broken('hel'))).rejects.toThrow('gone');
      const left = (): string[] => readdirSync(join(dir, 'incoming'));
      await begin('acme');
      writeFileSync(join(dir, 'incoming', 'being put'), 'x');
      ms += 8 * 24 * 3600_000;
      expect(left()).toHaveLength(2);
      vi.advanceTimersByTime(SWEEP.ms);
      await expect.poll(left).toEqual(['being put']);
      store.close();
      expect(vi.getTimerCount()).toBe(0);
    } finally {
      vi.useRealTimers();
    }
  });

  describe('beside others of the same uploader', () => {
    const nameOf = (i: number): string => String(i).repeat(64);
    /** Five, the first left for the longest, of which four have as many bytes as one uploader may have. */
    async function five(dir: string, by: string, store: BlobStore): Promise<void> {
      for (let i = 0; i < 5; i++) {
        await expect(store.resume(nameOf(i), by, 0, broken('hel'))).rejects.toThrow('gone');
        const path = join(dir, 'incoming', begunName(nameOf(i), by));
        truncateSync(path, BEGUN_BYTES_MAX / 4);
        utimesSync(path, new Date(), new Date(Date.now() - (10 - i) * 60_000));
      }
    }
    const begunOf = async (store: BlobStore, by: string): Promise<boolean[]> =>
      Promise.all([0, 1, 2, 3, 4].map(async (i) => (await store.begun(nameOf(i), by)) > 0));

    test('is dropped where they have too many bytes, and no other uploader’s', async () => {
      const dir = folder();
      const store = await openBlobFolder(dir, now);
      await five(dir, 'mallory', store);
      await expect(store.resume(nameOf(0), 'acme', 0, broken('hel'))).rejects.toThrow('gone');
      const again = await openBlobFolder(dir, now);
      expect(await begunOf(again, 'mallory')).toEqual([false, true, true, true, true]);
      expect(await again.begun(nameOf(0), 'acme')).toBe(3);
    });

    test('is dropped while another comes, also one that is under way', async () => {
      const dir = folder();
      const store = await openBlobFolder(dir, now);
      const hanging = codeOf(
        store.resume(
          nameOf(9),
          'acme',
          0,
          (async function* () {
            yield utf8('hel');
            await new Promise(() => undefined);
          })(),
        ),
      );
      await expect.poll(() => store.begun(nameOf(9), 'acme')).toBe(3);
      const under = join(dir, 'incoming', begunName(nameOf(9), 'acme'));
      utimesSync(under, new Date(), new Date(Date.now() - 3600_000));
      await five(dir, 'acme', store);
      const much = async function* (): AsyncIterable<Uint8Array> {
        const part = new Uint8Array(1024 * 1024);
        for (let bytes = 0; bytes < SWEEP.bytes; bytes += part.length) yield part;
        throw new Error('gone');
      };
      await expect(store.resume(nameOf(8), 'acme', 0, much())).rejects.toThrow('gone');
      await expect.poll(() => begunOf(store, 'acme')).toEqual([false, false, true, true, true]);
      expect(await hanging).toBe('CFN_STORE_FAILED');
      expect(await store.begun(nameOf(9), 'acme')).toBe(0);
    });

    test('counts for something, however small it is', async () => {
      const dir = folder();
      const store = await openBlobFolder(dir, now);
      await five(dir, 'acme', store);
      for (const i of [1, 2, 3, 4]) writeFileSync(join(dir, 'incoming', begunName(nameOf(i), 'acme')), 'x');
      truncateSync(join(dir, 'incoming', begunName(nameOf(0), 'acme')), BEGUN_BYTES_MAX - 5);
      utimesSync(join(dir, 'incoming', begunName(nameOf(0), 'acme')), new Date(), new Date(Date.now() - 3600_000));
      expect(await begunOf(await openBlobFolder(dir, now), 'acme')).toEqual([false, true, true, true, true]);
    });
  });
});
