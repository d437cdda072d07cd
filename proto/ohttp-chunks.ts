import { createByteQueue } from './byte-queue.ts';
import { concatBytes, utf8 } from './bytes.ts';
import { CfnError, type ErrorCode } from './errors.ts';
import { OHTTP_CHUNK_BYTES, OHTTP_CHUNK_BYTES_MAX } from './limits.ts';
import { OHTTP_SIZES } from './ohttp-suite.ts';
import { encodeVarint, readVarint, varintLength } from './varint.ts';

/** Chunks of draft-ietf-ohai-chunked-ohttp-08 §3: varint(length) ‖ sealed, and last varint 0 ‖ sealed up to the end. */
const NO_AAD = new Uint8Array(0);
const FINAL_AAD = utf8('final');
const FINAL_MARK = new Uint8Array(1);

type Cipher = (bytes: Uint8Array, aad: Uint8Array) => Promise<Uint8Array>;

export interface ChunkSealer {
  /**
   * Seals bytes as chunks of at most OHTTP_CHUNK_BYTES each, and returns them in one piece. Calls are sealed in the order they are
   * made. The plaintext may be overwritten once the promise resolves. No bytes in, no bytes out.
   */
  seal(plaintext: Uint8Array): Promise<Uint8Array<ArrayBuffer>>;
  /** Seals the final chunk, which may be empty: at most OHTTP_CHUNK_BYTES_MAX when sealed. */
  sealFinal(plaintext: Uint8Array): Promise<Uint8Array<ArrayBuffer>>;
}

export function createChunkSealer(cipher: Cipher): ChunkSealer {
  let done = false;
  const checkOpen = (): void => {
    if (done) throw new CfnError('CFN_INTERNAL', 'sealing after the final chunk');
  };
  return {
    async seal(plaintext) {
      checkOpen();
      // All calls of the cipher start before the first await: that fixes their order.
      const sealed: Promise<Uint8Array>[] = [];
      for (let at = 0; at < plaintext.length; at += OHTTP_CHUNK_BYTES) {
        sealed.push(cipher(plaintext.subarray(at, at + OHTTP_CHUNK_BYTES), NO_AAD));
      }
      const chunks = await Promise.all(sealed);
      return concatBytes(...chunks.flatMap((chunk) => [encodeVarint(chunk.length), chunk]));
    },
    async sealFinal(plaintext) {
      checkOpen();
      if (plaintext.length + OHTTP_SIZES.tag > OHTTP_CHUNK_BYTES_MAX)
        throw new CfnError('CFN_INTERNAL', 'the final chunk is too long');
      done = true;
      return concatBytes(FINAL_MARK, await cipher(plaintext, FINAL_AAD));
    },
  };
}

export interface ChunkOpener {
  /** Plaintext of the chunks that these bytes complete. A chunk is given only after it was authenticated. */
  push(bytes: Uint8Array): Promise<Uint8Array<ArrayBuffer>[]>;
  /** Says that no more bytes come; the plaintext of the final chunk, or nothing when that is empty. */
  end(): Promise<Uint8Array<ArrayBuffer>[]>;
}

export interface ChunkOpenerOptions {
  readonly open: Cipher;
  readonly malformed: ErrorCode;
  readonly truncated: ErrorCode;
  /** Told every sealed byte of the non-final chunks, in order. */
  readonly onSealed?: ((bytes: Uint8Array) => void) | undefined;
}

/** Calls must not overlap: each waits for the one before. */
export function createChunkOpener({ open, malformed, truncated, onSealed }: ChunkOpenerOptions): ChunkOpener {
  const queue = createByteQueue();
  let final = false;
  let ended = false;

  const openChunk = async (sealed: Uint8Array, aad: Uint8Array): Promise<Uint8Array<ArrayBuffer>> => {
    try {
      return (await open(sealed, aad)) as Uint8Array<ArrayBuffer>;
    } catch (cause) {
      throw new CfnError(malformed, 'a sealed chunk does not open', { cause });
    }
  };
  let prefix: Uint8Array | undefined;
  const nextChunk = (): Uint8Array | undefined => {
    if (prefix === undefined) {
      if (queue.length === 0 || queue.length < varintLength(queue.firstByte)) return undefined;
      prefix = queue.take(varintLength(queue.firstByte));
    }
    const length = readVarint(prefix, 0, malformed);
    if (length === 0) {
      final = true;
      return undefined;
    }
    if (length <= OHTTP_SIZES.tag) throw new CfnError(malformed, 'a chunk that is not the final one is empty');
    if (length > OHTTP_CHUNK_BYTES_MAX) throw new CfnError(malformed, `a chunk is over ${OHTTP_CHUNK_BYTES_MAX} bytes`);
    if (queue.length < length) return undefined;
    const sealed = queue.take(length);
    onSealed?.(prefix);
    onSealed?.(sealed);
    prefix = undefined;
    return sealed;
  };
  const checkFinal = (): void => {
    if (final && queue.length > OHTTP_CHUNK_BYTES_MAX)
      throw new CfnError(malformed, `the final chunk is over ${OHTTP_CHUNK_BYTES_MAX} bytes`);
  };

  return {
    async push(bytes) {
      if (ended) throw new CfnError(malformed, 'bytes come after the end');
      queue.append(bytes);
      const opened: Uint8Array<ArrayBuffer>[] = [];
      while (!final) {
        const sealed = nextChunk();
        if (sealed === undefined) break;
        opened.push(await openChunk(sealed, NO_AAD));
      }
      checkFinal();
      return opened;
    },
    async end() {
      if (ended) return [];
      ended = true;
      if (!final || queue.length < OHTTP_SIZES.tag)
        throw new CfnError(truncated, 'the sealed message ends before its final chunk does');
      const plaintext = await openChunk(queue.take(queue.length), FINAL_AAD);
      return plaintext.length === 0 ? [] : [plaintext];
    },
  };
}
