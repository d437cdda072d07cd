import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { CfnError } from '../proto/index.ts';
import { attempts } from './attempts.ts';
import { begunName, isBegun, surplusUploads } from './begun-uploads.ts';
import { BEGUN_BYTES_MAX, SWEEP } from './limits.ts';
import { untilAborted } from './until-aborted.ts';
import { onDisk, openUpload, sizeOf } from './upload.ts';

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
   * @throws {CfnError} `CFN_ARTIFACT_ALTERED` when the digest differs, `CFN_BODY_TOO_LARGE` over the limit of a model file,
   *   `CFN_STORE_FAILED` when the disk is full or fails
   */
  put(digest: string, source: AsyncIterable<Uint8Array>): Promise<void>;
  /** Bytes that an upload of `by` brought before it broke off; 0 when there was none. */
  begun(digest: string, by: string): Promise<number>;
  /**
   * Goes on with an upload, from `offset` to the end of the blob. When the source breaks off, what came is kept for the next attempt of `by`;
   * an attempt that begins while another is under way takes over from it, unless that one has all and only has to sync it.
   *
   * @param left aborts when the uploader goes away: then what came is kept, too
   * @throws {CfnError} as `put`; what had come is given up then. `CFN_CONFLICT` when `offset` is not what `begun` says, or another took over.
   *   `CFN_STORE_FAILED` also when newer uploads of `by` take the bytes that one uploader may have begun
   */
  resume(
    digest: string,
    by: string,
    offset: number,
    source: AsyncIterable<Uint8Array>,
    left?: AbortSignal,
  ): Promise<void>;
  get(digest: string): Promise<Blob | undefined>;
  /** Looks for uploads to drop no more. */
  close(): void;
}

/** After these, what came is of no use to a later attempt: other bytes, or a disk that is full of them. */
const GIVEN_UP: ReadonlySet<string> = new Set(['CFN_ARTIFACT_ALTERED', 'CFN_BODY_TOO_LARGE', 'CFN_STORE_FAILED']);

/**
 * A folder with one file per digest. What arrives lies in `incoming` until it is whole, verified and synced. At the start that is emptied of
 * all but uploads that can go on; of those, what is too old or too much is dropped then and from time to time.
 */
export async function openBlobFolder(folder: string, now: () => Date): Promise<BlobStore> {
  const incoming = join(folder, 'incoming');
  await mkdir(incoming, { recursive: true, mode: 0o700 });
  for (const name of await readdir(incoming))
    if (!isBegun(name)) await rm(join(incoming, name), { recursive: true, force: true });
  const begunUploads = attempts();
  const dropped = new CfnError(
    'CFN_STORE_FAILED',
    `uploads that have begun are kept for a week, and at most ${BEGUN_BYTES_MAX} bytes of one uploader`,
  );
  const dropSurplus = async (): Promise<void> => {
    for (const name of await surplusUploads(incoming, now())) {
      const path = join(incoming, name);
      await begunUploads.next(path, dropped, () => rm(path, { force: true }));
    }
  };
  await dropSurplus();
  let sweeping: Promise<void> | undefined;
  let unswept = 0;
  const sweep = (): void => {
    unswept = 0;
    // What fails, or is overtaken by a new attempt, is left to the next time.
    sweeping ??= dropSurplus()
      .catch(() => undefined)
      .finally(() => (sweeping = undefined));
  };
  const timer = setInterval(sweep, SWEEP.ms);
  timer.unref();
  /** No attempt waits for a sweep, because a sweep waits for attempts to end. */
  async function* swept(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of source) {
      unswept += chunk.length;
      if (unswept >= SWEEP.bytes) sweep();
      yield chunk;
    }
  }
  // The digest is validated by the route; here it decides a path, so it is looked at again.
  const pathOf = (digest: string): string => {
    if (!/^[0-9a-f]{64}$/.test(digest))
      throw new CfnError('CFN_INPUT_INVALID', 'a blob is named by 64 lower-case hexadecimal digits');
    return join(folder, digest);
  };
  const begunPath = (digest: string, by: string): string => join(incoming, begunName(basename(pathOf(digest)), by));
  const publish = (from: string, to: string): Promise<void> =>
    onDisk(async () => {
      await rename(from, to);
      await syncFolder(folder);
    });

  return {
    size: async (digest) => sizeOf(pathOf(digest)),
    async put(digest, source) {
      const target = pathOf(digest);
      const temporary = join(incoming, randomUUID());
      try {
        await receive(temporary, digest, source);
        await publish(temporary, target);
      } finally {
        await rm(temporary, { force: true });
      }
    },
    begun: async (digest, by) => (await sizeOf(begunPath(digest, by))) ?? 0,
    async resume(digest, by, offset, source, left) {
      const target = pathOf(digest);
      const path = begunPath(digest, by);
      const takenOver = new CfnError('CFN_CONFLICT', 'another upload of this blob took over');
      await begunUploads.next(path, takenOver, async (stopped) => {
        // The one before may have come to its end meanwhile.
        if ((await sizeOf(target)) !== undefined) return rm(path, { force: true });
        const there = (await sizeOf(path)) ?? 0;
        if (there !== offset) throw new CfnError('CFN_CONFLICT', `the upload goes on at ${there}, not at ${offset}`);
        try {
          await receive(path, digest, swept(source), left === undefined ? stopped : AbortSignal.any([stopped, left]));
          await publish(path, target);
        } catch (error) {
          if (error instanceof CfnError && GIVEN_UP.has(error.code)) await rm(path, { force: true });
          throw error;
        }
      });
    },
    async get(digest) {
      const path = pathOf(digest);
      const bytes = await sizeOf(path);
      if (bytes === undefined) return undefined;
      return { bytes, stream: () => createReadStream(path, { highWaterMark: 256 * 1024 }) };
    },
    close: () => clearInterval(timer),
  };
}

/** @param signal stops it as long as not all has come */
async function receive(
  path: string,
  digest: string,
  source: AsyncIterable<Uint8Array>,
  signal?: AbortSignal,
): Promise<void> {
  await using upload = await openUpload(path, signal);
  for await (const chunk of signal === undefined ? source : untilAborted(source, signal)) await upload.write(chunk);
  signal?.throwIfAborted();
  await upload.finish(digest);
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
