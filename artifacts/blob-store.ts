import { createHash } from 'node:crypto';
import { CfnError } from '../proto/index.ts';

/** Holds ciphertext and signed bytes under their SHA-256. The store is outside the trust boundary: readers verify. */
export interface BlobStore {
  has(digest: string): Promise<boolean>;
  /**
   * Stores the bytes, all or nothing. Storing what is there already succeeds.
   *
   * @throws {CfnError} `CFN_ARTIFACT_ALTERED` when the bytes have another digest; nothing is stored then
   */
  put(digest: string, bytes: AsyncIterable<Uint8Array>): Promise<void>;
  /**
   * Stores the bytes as `put` does. What an earlier attempt brought there, if the store kept it, is not asked for again.
   *
   * @param from yields the bytes from an offset to the end, in pieces that are good until eight more were taken; asked again, from 0, when what the store kept was no part of them
   */
  putFrom(digest: string, from: (offset: number) => AsyncIterable<Uint8Array>): Promise<void>;
  /**
   * Streams the bytes. The iteration throws `CFN_ARTIFACT_ALTERED` at its end when they have another digest, so
   * nothing read counts before it has ended.
   *
   * @throws {CfnError} `CFN_BLOB_NOT_FOUND`
   */
  get(digest: string): Promise<AsyncIterable<Uint8Array>>;
  /**
   * Streams what the store has under this digest, whatever it is: for a reader who verifies each byte by itself, as the engine does.
   *
   * @throws {CfnError} `CFN_BLOB_NOT_FOUND`
   */
  getUnverified(digest: string): Promise<AsyncIterable<Uint8Array>>;
}

/** Refuses anything but 64 lower-case hexadecimal digits: a digest becomes a path and a URL. */
export function checkDigest(digest: string): string {
  if (!/^[0-9a-f]{64}$/.test(digest))
    throw new CfnError('CFN_INPUT_INVALID', 'a blob digest is 64 lower-case hexadecimal digits');
  return digest;
}

/** Passes the bytes on, and throws `CFN_ARTIFACT_ALTERED` at their end when they have another digest. */
export async function* verifyDigest(digest: string, bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  for await (const chunk of bytes) {
    hash.update(chunk);
    yield chunk;
  }
  const came = hash.digest('hex');
  if (came !== digest) throw new CfnError('CFN_ARTIFACT_ALTERED', `blob has digest ${came}, expected ${digest}`);
}

export function blobNotFound(digest: string): CfnError {
  return new CfnError('CFN_BLOB_NOT_FOUND', `the blob store does not hold ${digest}`);
}
