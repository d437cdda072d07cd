import { createByteQueue } from './byte-queue.ts';
import { concatBytes } from './bytes.ts';
import { CfnError } from './errors.ts';
import { createChunkOpener, createChunkSealer, type ChunkOpener, type ChunkSealer } from './ohttp-chunks.ts';
import { OHTTP_SIZES, type OhttpSuite } from './ohttp-suite.ts';

/** Export label of a chunked response, draft-ietf-ohai-chunked-ohttp-08 §6.2. */
export const RESPONSE_LABEL = new TextEncoder().encode('message/bhttp chunked response');

export interface ResponseSealer extends ChunkSealer {
  /** The response nonce: goes before all chunks. 16 bytes. */
  readonly header: Uint8Array<ArrayBuffer>;
}

export interface ResponseOpenerOptions {
  /** Told, in order, every sealed byte before the final chunk's length: what a receipt's `response.digest` is over. */
  readonly onSealed?: (bytes: Uint8Array) => void;
}

/** @param nonce must be random: it keeps two responses to one request under different keys */
export async function sealResponse(
  suite: OhttpSuite,
  secret: Uint8Array,
  enc: Uint8Array,
  nonce: Uint8Array<ArrayBuffer>,
): Promise<ResponseSealer> {
  const { key, baseNonce } = await responseKeys(suite, secret, enc, nonce);
  const counter = nonceCounter(baseNonce);
  return { header: nonce, ...createChunkSealer((bytes, aad) => suite.aead.Seal(key, counter(), aad, bytes)) };
}

/**
 * Opens a chunked response.
 *
 * @throws {CfnError} `CFN_RESPONSE_TRUNCATED`, or `CFN_RESPONSE_MALFORMED` when a chunk was altered, moved, repeated or left out
 */
export function openResponse(
  suite: OhttpSuite,
  secret: Uint8Array,
  enc: Uint8Array,
  { onSealed }: ResponseOpenerOptions = {},
): ChunkOpener {
  const queue = createByteQueue();
  let chunks: ChunkOpener | undefined;
  return {
    async push(bytes) {
      if (chunks !== undefined) return chunks.push(bytes);
      queue.append(bytes);
      if (queue.length < OHTTP_SIZES.nonce) return [];
      const nonce = queue.take(OHTTP_SIZES.nonce);
      onSealed?.(nonce);
      const { key, baseNonce } = await responseKeys(suite, secret, enc, nonce);
      const counter = nonceCounter(baseNonce);
      chunks = createChunkOpener({
        open: (sealed, aad) => suite.aead.Open(key, counter(), aad, sealed),
        malformed: 'CFN_RESPONSE_MALFORMED',
        truncated: 'CFN_RESPONSE_TRUNCATED',
        onSealed,
      });
      return chunks.push(queue.take(queue.length));
    },
    async end() {
      if (chunks === undefined)
        throw new CfnError('CFN_RESPONSE_TRUNCATED', 'the sealed response ends within its nonce');
      return chunks.end();
    },
  };
}

/** RFC 9458 §4.4. */
export async function responseKeys(
  suite: OhttpSuite,
  secret: Uint8Array,
  enc: Uint8Array,
  nonce: Uint8Array,
): Promise<{ key: Uint8Array; baseNonce: Uint8Array }> {
  const prk = await suite.kdf.Extract(concatBytes(enc, nonce), secret);
  const [key, baseNonce] = await Promise.all([
    suite.kdf.Expand(prk, KEY, OHTTP_SIZES.aeadKey),
    suite.kdf.Expand(prk, NONCE, OHTTP_SIZES.aeadNonce),
  ]);
  return { key, baseNonce };
}
const KEY = new TextEncoder().encode('key');
const NONCE = new TextEncoder().encode('nonce');

/** Base nonce XOR counter, from 0. 32 bits of counter are far beyond what RESPONSE_BYTES_MAX can fill. */
function nonceCounter(base: Uint8Array): () => Uint8Array {
  let next = 0;
  return () => {
    const nonce = new Uint8Array(base);
    const view = new DataView(nonce.buffer);
    view.setUint32(OHTTP_SIZES.aeadNonce - 4, view.getUint32(OHTTP_SIZES.aeadNonce - 4) ^ next);
    next += 1;
    if (next > 0xffff_ffff) throw new CfnError('CFN_INTERNAL', 'too many chunks under one key');
    return nonce;
  };
}
