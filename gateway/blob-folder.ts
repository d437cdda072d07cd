import { createHash, randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { CfnError, MODEL_FILE_BYTES_MAX } from '../proto/index.ts';

export interface Blob {
  readonly bytes: number;
  stream(): AsyncIterable<Uint8Array>;
}

/** Ciphertext and bundles by digest. The gateway never learns what is in them. */
export interface BlobStore {
  /** Size in bytes, or `undefined` when the digest is not held. */
  size(digest: string): Promise<number | undefined>;
  /**
   * Takes a blob whose SHA-256 must be `digest`. After it returns the blob is durable; before, nobody sees it.
   *
   * @throws {CfnError} `CFN_ARTIFACT_ALTERED` when the digest differs, `CFN_BODY_TOO_LARGE` over the limit of a model file.
   */
  put(digest: string, source: AsyncIterable<Uint8Array>): Promise<void>;
  get(digest: string): Promise<Blob | undefined>;
}

/** A folder with one file per digest. Files that an interrupted upload left are removed at the start. */
export async function openBlobFolder(folder: string): Promise<BlobStore> {
  const incoming = join(folder, 'incoming');
  await rm(incoming, { recursive: true, force: true });
  await mkdir(incoming, { recursive: true, mode: 0o700 });
  // The digest is validated by the route; here it decides a path, so it is looked at again.
  const pathOf = (digest: string): string => {
    if (!/^[0-9a-f]{64}$/.test(digest))
      throw new CfnError('CFN_INPUT_INVALID', 'a blob is named by 64 lower-case hexadecimal digits');
    return join(folder, digest);
  };
  const size = async (digest: string): Promise<number | undefined> => {
    try {
      return (await stat(pathOf(digest))).size;
    } catch (cause) {
      if (isMissing(cause)) return undefined;
      throw cause;
    }
  };

  return {
    size,
    async put(digest, source) {
      const target = pathOf(digest);
      const temporary = join(incoming, randomUUID());
      try {
        await writeVerified(temporary, digest, source);
        await rename(temporary, target);
        await syncFolder(folder);
      } finally {
        await rm(temporary, { force: true });
      }
    },
    async get(digest) {
      const bytes = await size(digest);
      if (bytes === undefined) return undefined;
      const path = pathOf(digest);
      return { bytes, stream: () => createReadStream(path, { highWaterMark: 256 * 1024 }) };
    },
  };
}

async function writeVerified(path: string, digest: string, source: AsyncIterable<Uint8Array>): Promise<void> {
  const hash = createHash('sha256');
  const file = await open(path, 'wx', 0o600);
  try {
    let bytes = 0;
    for await (const chunk of source) {
      bytes += chunk.length;
      // 16 bytes of tag for each segment of at least 1 MiB come on top of the plaintext limit.
      if (bytes > MODEL_FILE_BYTES_MAX + MODEL_FILE_BYTES_MAX / 65_536) {
        throw new CfnError('CFN_BODY_TOO_LARGE', `a blob has at most ${MODEL_FILE_BYTES_MAX} bytes`);
      }
      hash.update(chunk);
      await file.writeFile(chunk);
    }
    const actual = hash.digest('hex');
    if (actual !== digest)
      throw new CfnError('CFN_ARTIFACT_ALTERED', `the blob has digest ${actual}, expected ${digest}`);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes a rename durable. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

const isMissing = (cause: unknown): boolean => (cause as NodeJS.ErrnoException).code === 'ENOENT';
