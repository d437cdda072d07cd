import { concatBytes, sha256Hex, type Receipt } from '../proto/index.ts';

/** An incremental SHA-256; `digest` gives hexadecimal, and is called once. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  digest(): string | Promise<string>;
}

/** WebCrypto hashes in one go only, so this keeps what it is given: at most one sealed message. */
export function webCryptoHasher(): Hasher {
  const pieces: Uint8Array[] = [];
  return {
    update(bytes) {
      pieces.push(bytes);
    },
    digest: () => sha256Hex(concatBytes(...pieces.splice(0))),
  };
}

/** A hasher that counts, for the digests of a receipt. */
export function countingHasher(hasher: Hasher): {
  update(bytes: Uint8Array): void;
  finish(): Promise<Receipt['request']>;
} {
  let bytes = 0;
  return {
    update(piece) {
      bytes += piece.length;
      hasher.update(piece);
    },
    finish: async () => ({ digest: await hasher.digest(), bytes }),
  };
}
