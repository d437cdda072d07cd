import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { blobStoreContract, digestOf, inPieces } from './blob-store.contract.ts';
import { folderBlobStore } from './folder-blob-store.ts';

const made: string[] = [];
afterAll(async () => {
  for (const dir of made) await rm(dir, { recursive: true, force: true });
});
async function newFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'cfn-blobs-'));
  made.push(dir);
  return join(dir, 'blobs');
}

describe('folderBlobStore', () => {
  blobStoreContract(async () => {
    const dir = await newFolder();
    return {
      store: folderBlobStore(dir),
      async damage(digest) {
        const path = join(dir, digest.slice(0, 2), digest);
        const bytes = await readFile(path);
        bytes[1_234_567] = (bytes[1_234_567] ?? 0) ^ 1;
        await writeFile(path, bytes);
      },
    };
  });

  test('is closed to others, and leaves no piece of a refused blob', async () => {
    const dir = await newFolder();
    const store = folderBlobStore(dir);
    const bytes = randomBytes(1000);
    const digest = digestOf(bytes);
    await store.put(digest, inPieces(bytes));
    await expect(store.put(digestOf(randomBytes(8)), inPieces(bytes))).rejects.toThrow();
    expect(await readdir(join(dir, 'incoming'))).toEqual([]);
    const modes = [dir, join(dir, digest.slice(0, 2)), join(dir, digest.slice(0, 2), digest)].map(
      async (path) => (await stat(path)).mode & 0o777,
    );
    expect(await Promise.all(modes)).toEqual([0o700, 0o700, 0o600]);
  });

  test('says when the disk fails', async () => {
    const dir = await newFolder();
    await writeFile(dir, 'a file where the folder should be');
    const bytes = randomBytes(10);
    await expect(folderBlobStore(dir).put(digestOf(bytes), inPieces(bytes))).rejects.toMatchObject({
      code: 'CFN_STORE_FAILED',
    });
    await expect(folderBlobStore(dir).has(digestOf(bytes))).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
  });
});
