import { randomUUID } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { CfnError } from '../proto/index.ts';
import { blobNotFound, checkDigest, verifyDigest, type BlobStore } from './blob-store.ts';

const READ_BYTES = 1024 * 1024;

/**
 * Blobs in a folder: `DIR/ab/abcd…`, sharded by the digest's first byte; folders 0700, files 0600. A blob is written
 * under `DIR/incoming/`, synced, then renamed: it is there whole, or not at all, also after a power cut.
 */
export function folderBlobStore(dir: string): BlobStore {
  const shardOf = (digest: string): string => join(dir, digest.slice(0, 2));
  const pathOf = (digest: string): string => join(shardOf(digest), digest);
  const store: BlobStore = {
    async has(digest) {
      const path = pathOf(checkDigest(digest));
      try {
        await access(path, constants.R_OK);
        return true;
      } catch (cause) {
        if (isAbsent(cause)) return false;
        throw storeFailed(cause);
      }
    },
    async put(digest, bytes) {
      const target = pathOf(checkDigest(digest));
      const incoming = join(dir, 'incoming');
      const temporary = join(incoming, randomUUID());
      const written = await onDisk(async () => {
        await mkdir(incoming, { recursive: true, mode: 0o700 });
        await mkdir(shardOf(digest), { recursive: true, mode: 0o700 });
        return open(temporary, 'wx', 0o600);
      });
      try {
        try {
          // The source's own errors pass as they are; only what the disk does becomes CFN_STORE_FAILED.
          for await (const chunk of verifyDigest(digest, bytes)) await onDisk(() => writeAll(written, chunk));
          await onDisk(() => written.sync());
        } finally {
          await written.close();
        }
        await onDisk(async () => {
          await rename(temporary, target);
          for (const folder of [shardOf(digest), dir]) await syncFolder(folder);
        });
      } catch (error) {
        await rm(temporary, { force: true });
        throw error;
      }
    },
    putFrom: (digest, from) => store.put(digest, from(0)),
    get: async (digest) => verifyDigest(digest, await store.getUnverified(digest)),
    async getUnverified(digest) {
      const path = pathOf(checkDigest(digest));
      try {
        return readPieces(await open(path, 'r'));
      } catch (cause) {
        throw isAbsent(cause) ? blobNotFound(digest) : storeFailed(cause);
      }
    },
  };
  return store;
}

async function* readPieces(file: FileHandle): AsyncGenerator<Uint8Array> {
  try {
    for (;;) {
      // A buffer for each piece: the reader may keep it.
      const piece = new Uint8Array(READ_BYTES);
      const { bytesRead } = await onDisk(() => file.read(piece, 0, READ_BYTES));
      if (bytesRead === 0) return;
      yield piece.subarray(0, bytesRead);
    }
  } finally {
    await file.close();
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += (await file.write(bytes, at)).bytesWritten;
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function onDisk<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw storeFailed(cause);
  }
}

function isAbsent(cause: unknown): boolean {
  return (cause as NodeJS.ErrnoException).code === 'ENOENT';
}

function storeFailed(cause: unknown): CfnError {
  return new CfnError(
    'CFN_STORE_FAILED',
    `the blob folder failed: ${(cause as NodeJS.ErrnoException).code ?? 'unknown'}`,
    { cause },
  );
}
