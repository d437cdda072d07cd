import { createHash, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import type { BlobStore } from './blob-store.ts';

export const digestOf = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

export async function* inPieces(bytes: Uint8Array, pieceBytes = 100_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

export async function readAll(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

/** What every blob store does. `damage` changes a stored blob behind the store's back. */
export function blobStoreContract(
  make: () => Promise<{ store: BlobStore; damage: (digest: string) => Promise<void> }>,
): void {
  const bytes = randomBytes(2_500_000);
  const digest = digestOf(bytes);

  test('gives back what was put', async () => {
    const { store } = await make();
    expect(await store.has(digest)).toBe(false);
    await store.put(digest, inPieces(bytes));
    expect(await store.has(digest)).toBe(true);
    expect((await readAll(await store.get(digest))).equals(bytes)).toBe(true);
  });

  test('holds an empty blob', async () => {
    const { store } = await make();
    const empty = digestOf(new Uint8Array());
    await store.put(empty, inPieces(new Uint8Array()));
    expect((await readAll(await store.get(empty))).length).toBe(0);
  });

  test('takes the same blob twice, also at the same time', async () => {
    const { store } = await make();
    await Promise.all([store.put(digest, inPieces(bytes)), store.put(digest, inPieces(bytes, 3_000_000))]);
    await store.put(digest, inPieces(bytes));
    expect((await readAll(await store.get(digest))).equals(bytes)).toBe(true);
  });

  test('refuses bytes with another digest, and keeps nothing of them', async () => {
    const { store } = await make();
    const other = digestOf(randomBytes(8));
    await expect(store.put(other, inPieces(bytes))).rejects.toMatchObject({ code: 'CFN_ARTIFACT_ALTERED' });
    expect(await store.has(other)).toBe(false);
  });

  test('keeps nothing of a source that fails, and passes its error on', async () => {
    const { store } = await make();
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield bytes.subarray(0, 1_000_000);
      throw new RangeError('source failed');
    }
    await expect(store.put(digest, failing())).rejects.toThrow('source failed');
    expect(await store.has(digest)).toBe(false);
  });

  test('refuses an unknown digest', async () => {
    const { store } = await make();
    await expect(store.get(digest)).rejects.toMatchObject({ code: 'CFN_BLOB_NOT_FOUND' });
  });

  test('refuses what is not a digest', async () => {
    const { store } = await make();
    for (const wrong of ['', '..', `../${digest}`, digest.toUpperCase(), digest.slice(1)]) {
      await expect(store.has(wrong)).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
      await expect(store.get(wrong)).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
      await expect(store.put(wrong, inPieces(bytes))).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
    }
  });

  test('tells at the end that a stored blob was changed', async () => {
    const { store, damage } = await make();
    await store.put(digest, inPieces(bytes));
    await damage(digest);
    await expect(store.get(digest).then(readAll)).rejects.toMatchObject({ code: 'CFN_ARTIFACT_ALTERED' });
  });
}
