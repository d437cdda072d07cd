import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { CfnError, MODEL_FILE_BYTES_MAX } from '../proto/index.ts';

/** 16 bytes of tag for each segment of at least 1 MiB come on top of the plaintext limit. */
const BLOB_BYTES_MAX = MODEL_FILE_BYTES_MAX + MODEL_FILE_BYTES_MAX / 65_536;
const READ_BYTES = 1024 * 1024;

/** A blob that is arriving, in a file of its own. */
export interface Upload extends AsyncDisposable {
  /** @throws {CfnError} `CFN_BODY_TOO_LARGE`, `CFN_STORE_FAILED` */
  write(chunk: Uint8Array): Promise<void>;
  /** Makes it durable. @throws {CfnError} `CFN_ARTIFACT_ALTERED` unless the bytes have this digest */
  finish(digest: string): Promise<void>;
}

/**
 * Opens the file of an upload, or makes it; goes on behind what it holds. Nobody else may have it open.
 *
 * @param signal stops the reading of what it holds
 */
export async function openUpload(path: string, signal?: AbortSignal): Promise<Upload> {
  const file = await onDisk(() => open(path, constants.O_RDWR | constants.O_CREAT, 0o600));
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    const piece = new Uint8Array(READ_BYTES);
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await onDisk(() => file.read(piece, 0, READ_BYTES, bytes));
      if (bytesRead === 0) break;
      hash.update(piece.subarray(0, bytesRead));
      bytes += bytesRead;
    }
  } catch (error) {
    await file.close();
    throw error;
  }
  return {
    async write(chunk) {
      if (bytes + chunk.length > BLOB_BYTES_MAX)
        throw new CfnError('CFN_BODY_TOO_LARGE', `a blob has at most ${MODEL_FILE_BYTES_MAX} bytes`);
      for (let at = 0; at < chunk.length;)
        at += (await onDisk(() => file.write(chunk, at, chunk.length - at, bytes + at))).bytesWritten;
      hash.update(chunk);
      bytes += chunk.length;
    },
    async finish(digest) {
      const actual = hash.digest('hex');
      if (actual !== digest)
        throw new CfnError('CFN_ARTIFACT_ALTERED', `the blob has digest ${actual}, expected ${digest}`);
      await onDisk(() => file.sync());
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}

/** Size in bytes, or `undefined` when there is no such file. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw storeFailed(cause);
  }
}

/** What the disk does wrong, a full one above all, is `CFN_STORE_FAILED`; the source's own errors pass as they are. */
export async function onDisk<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    throw storeFailed(cause);
  }
}

function storeFailed(cause: unknown): CfnError {
  const reason = (cause as NodeJS.ErrnoException).code ?? 'unknown';
  return new CfnError('CFN_STORE_FAILED', `the blob folder failed: ${reason}`, { cause });
}
