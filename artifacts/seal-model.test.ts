import { randomBytes } from 'node:crypto';
import { appendFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseModelPackage, SEGMENT_BYTES } from '../proto/index.ts';
import { digestOf, readAll } from './blob-store.contract.ts';
import { folderBlobStore } from './folder-blob-store.ts';
import { sealModel, type SealedModel, type SealProgress } from './seal-model.ts';
import { openFile } from './open-file.testkit.ts';

const kms = { url: 'http://127.0.0.1:9000', publicKey: 'A'.repeat(43) };
const MODEL = 'acme/detector@1';
const marker = randomBytes(64);
const graph = Buffer.concat([randomBytes(2 * SEGMENT_BYTES), marker, randomBytes(500)]);
const weights = randomBytes(SEGMENT_BYTES);
let dir: string;
let files: { path: string; source: string }[];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cfn-seal-'));
  files = [
    { path: 'model.onnx', source: join(dir, 'graph') },
    { path: 'weights.bin', source: join(dir, 'weights') },
  ];
  await writeFile(join(dir, 'graph'), graph);
  await writeFile(join(dir, 'weights'), weights);
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('sealModel', () => {
  test('stores ciphertext that opens to the files, and nothing else', async () => {
    const blobs = join(dir, 'blobs');
    const store = folderBlobStore(blobs);
    const progress: SealProgress[] = [];
    const sealed = await sealModel({ model: MODEL, files, kms, store, onProgress: (step) => progress.push(step) });

    const manifest = await parseModelPackage(sealed.manifestBytes, sealed.digest);
    expect(manifest.kms).toEqual(kms);
    expect(sealed.dataKey.length).toBe(32);
    expect(new Set(manifest.files.map(({ noncePrefix }) => noncePrefix)).size).toBe(2);
    for (const [i, source] of [graph, weights].entries()) {
      const file = manifest.files[i];
      if (file === undefined) throw new Error('a file is missing');
      const stored = await readAll(await store.get(file.ciphertextDigest));
      expect(openFile(sealed.dataKey, file, MODEL, stored).equals(source)).toBe(true);
      expect(file.plaintextDigest).toBe(digestOf(source));
    }
    const names = (await readdir(blobs, { recursive: true })).filter((name) => name.length > 60);
    expect(names.length).toBe(2);
    for (const name of names) {
      const stored = await readAll(await store.get(name.slice(-64)));
      expect(stored.includes(marker)).toBe(false);
      expect(stored.includes(Buffer.from(sealed.dataKey))).toBe(false);
    }
    const all = graph.length + weights.length;
    expect(progress.at(-1)).toEqual({ step: 'storing', bytesDone: all, bytesTotal: all });
    expect(progress.filter(({ step }) => step === 'sealing').at(-1)?.bytesDone).toBe(all);
  });

  test('uses a fresh key and fresh prefixes each time', async () => {
    const store = folderBlobStore(join(dir, 'twice'));
    const [a, b] = [
      await sealModel({ model: MODEL, files, kms, store }),
      await sealModel({ model: MODEL, files, kms, store }),
    ];
    expect(a.digest).not.toBe(b.digest);
    expect(Buffer.from(a.dataKey).equals(b.dataKey)).toBe(false);
  });

  test.each([
    ['a wrong reference', { model: 'no-version' }],
    ['no model.onnx', { files: [{ path: 'weights.bin', source: '/dev/null' }] }],
    ['a path twice', { files: [0, 1].map(() => ({ path: 'model.onnx', source: '/dev/null' })) }],
    ['a path that leads elsewhere', { files: [{ path: '../x', source: 'x' }] }],
    ['a missing file', { files: [{ path: 'model.onnx', source: '/nonexistent/x' }] }],
    ['what is no file', { files: [{ path: 'model.onnx', source: '/' }] }],
    ['a wrong KMS key', { kms: { ...kms, publicKey: 'short' } }],
  ])('refuses %s', async (_, wrong) => {
    const store = folderBlobStore(join(dir, 'refused'));
    await expect(sealModel({ model: MODEL, files, kms, store, ...wrong })).rejects.toMatchObject({
      code: 'CFN_INPUT_INVALID',
    });
  });

  test('refuses a file that changes between its two passes, and stores nothing of it', async () => {
    const source = join(dir, 'moving');
    const run = async (change: (source: string) => Promise<void>): Promise<void> => {
      await writeFile(source, randomBytes(1000));
      const inner = folderBlobStore(join(dir, 'moved'));
      const store = {
        ...inner,
        putFrom: async (...args: Parameters<typeof inner.putFrom>) => change(source).then(() => inner.putFrom(...args)),
      };
      await sealModel({ model: MODEL, files: [{ path: 'model.onnx', source }], kms, store });
    };
    await expect(run((path) => appendFile(path, 'more'))).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
    await expect(run((path) => writeFile(path, randomBytes(1000)))).rejects.toMatchObject({
      code: 'CFN_INPUT_INVALID',
    });
    expect((await readdir(join(dir, 'moved'), { recursive: true })).filter((name) => name.length > 60)).toEqual([]);
  });
});

describe('a push that goes on', () => {
  /** A store whose connection breaks after so many bytes; keeps all ciphertext that ever left, by file and offset. */
  const breaking = () => {
    const left: { digest: string; offset: number; bytes: Buffer }[] = [];
    const held = new Map<string, Buffer>();
    const store = {
      limit: Infinity,
      /** What the store says it has. */
      claim: (digest: string): number => held.get(digest)?.length ?? 0,
      async putFrom(digest: string, from: (offset: number) => AsyncIterable<Uint8Array>): Promise<void> {
        const offset = store.claim(digest);
        let at = offset;
        for await (const piece of from(offset)) {
          left.push({ digest, offset: at, bytes: Buffer.from(piece) });
          at += piece.length;
          held.set(digest, Buffer.concat([held.get(digest)?.subarray(0, at - piece.length) ?? Buffer.alloc(0), piece]));
          if ((store.limit -= piece.length) <= 0) throw new Error('connection lost');
        }
      },
    };
    return { store, left, held };
  };
  type Store = Parameters<typeof sealModel>[0]['store'];
  const sealing = async (
    { store }: ReturnType<typeof breaking>,
    begun?: SealedModel,
    from = files,
  ): Promise<SealedModel> => {
    let kept: SealedModel | undefined;
    const beforeStoring = async (sealed: SealedModel): Promise<void> => {
      kept = { ...sealed, dataKey: new Uint8Array(sealed.dataKey) };
    };
    try {
      return await sealModel({
        model: MODEL,
        files: from,
        kms,
        store: store as unknown as Store,
        begun,
        beforeStoring,
      });
    } catch (error) {
      if ((error as Error).message === 'connection lost' && kept !== undefined) return kept;
      throw error;
    }
  };

  test.each([1, 100_000, SEGMENT_BYTES + 16, SEGMENT_BYTES + 17, 2 * SEGMENT_BYTES + 1000, 2.5 * SEGMENT_BYTES])(
    'from %d bytes, under the same key and manifest',
    async (limit) => {
      const network = breaking();
      network.store.limit = limit;
      const begun = await sealing(network);
      network.store.limit = Infinity;
      network.store.claim = (digest) => Math.min(limit, network.held.get(digest)?.length ?? 0);
      const done = await sealing(network, begun);
      expect(done.digest).toBe(begun.digest);
      expect(Buffer.from(done.dataKey).equals(begun.dataKey)).toBe(true);
      const manifest = await parseModelPackage(done.manifestBytes, done.digest);
      for (const [i, source] of [graph, weights].entries()) {
        const file = manifest.files[i];
        const stored = network.held.get(file?.ciphertextDigest ?? '') ?? Buffer.alloc(0);
        expect(digestOf(stored)).toBe(file?.ciphertextDigest);
        if (file !== undefined) expect(openFile(done.dataKey, file, MODEL, stored).equals(source)).toBe(true);
      }
    },
  );

  test('INV-30 is refused when a file changed since, and nothing leaves', async () => {
    const source = join(dir, 'changing');
    const own = [{ path: 'model.onnx', source }];
    const whole = randomBytes(3 * SEGMENT_BYTES);
    for (const changed of [
      whole.with(5, (whole[5] ?? 0) ^ 1),
      whole.with(whole.length - 1, 7),
      whole.subarray(1),
      Buffer.concat([whole, whole]),
    ]) {
      await writeFile(source, whole);
      const network = breaking();
      network.store.limit = SEGMENT_BYTES;
      const begun = await sealing(network, undefined, own);
      const before = network.left.length;
      await writeFile(source, changed);
      await expect(sealing(network, begun, own)).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
      expect(network.left.length).toBe(before);
    }
  });

  test('INV-30 never lets a nonce meet two plaintexts, not even when the file changes under it and the store lies', async () => {
    const source = join(dir, 'racing');
    const own = [{ path: 'model.onnx', source }];
    const whole = randomBytes(3 * SEGMENT_BYTES);
    await writeFile(source, whole);
    const network = breaking();
    network.store.limit = 2 * SEGMENT_BYTES;
    const begun = await sealing(network, undefined, own);
    network.store.limit = Infinity;
    // It says that it has nothing, after the first pass found the file as it was; and then the file changes.
    const putFrom = network.store.putFrom.bind(network.store);
    network.store.claim = () => 0;
    network.store.putFrom = async (digest, from) => {
      await writeFile(source, whole.with(100, (whole[100] ?? 0) ^ 1));
      return putFrom(digest, from);
    };
    const before = network.left.length;
    await expect(sealing(network, begun, own)).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
    expect(network.left.length).toBe(before);
  });

  test('a store that claims more than there is gets nothing of use', async () => {
    const network = breaking();
    network.store.claim = () => 10 ** 9;
    await sealing(network);
    expect(network.left.every(({ bytes }) => bytes.length === 0)).toBe(true);
  });
});
