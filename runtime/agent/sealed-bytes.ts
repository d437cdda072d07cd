import { createHash } from 'node:crypto';
import type { Receipt } from '../../proto/index.ts';

/** The bytes of a sealed request as they come, and what a receipt says of them. */
export interface SealedBytes extends AsyncIterator<Uint8Array, undefined> {
  /** How many were read. */
  bytes(): number;
  /** SHA-256 and length of what was read. */
  digest(): Receipt['request'];
}

export function sealedBytes(chunks: AsyncIterator<Uint8Array>): SealedBytes {
  const hash = createHash('sha256');
  let bytes = 0;
  return {
    async next() {
      const { done, value } = await chunks.next();
      if (done === true) return { done: true, value: undefined };
      bytes += value.length;
      hash.update(value);
      return { done: false, value };
    },
    bytes: () => bytes,
    digest: () => ({ digest: hash.copy().digest('hex'), bytes }),
  };
}
