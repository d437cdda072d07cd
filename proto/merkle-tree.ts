import { createHash } from 'node:crypto';

type Hash = Uint8Array;

/** SHA-256(0x00 || entry): RFC 9162 §2.1.1. */
export const leafHash = (entry: Uint8Array): Hash => createHash('sha256').update(LEAF).update(entry).digest();
const nodeHash = (left: Hash, right: Hash): Hash =>
  createHash('sha256').update(NODE).update(left).update(right).digest();
const LEAF = Uint8Array.of(0);
const NODE = Uint8Array.of(1);

/** A Merkle tree over leaf hashes, all its levels in memory: 64 bytes a leaf. */
export interface MerkleTree {
  readonly size: number;
  /** MTH(D[n]). */
  readonly root: Hash;
  /** PATH(m, D[n]), RFC 9162 §2.1.3.1: from the leaf up. @throws {RangeError} */
  path(index: number): Hash[];
}

export function merkleTree(leaves: readonly Hash[]): MerkleTree {
  // A node without a sibling rises as it is, which gives the tree of RFC 9162: every left subtree is the largest full one.
  const levels: (readonly Hash[])[] = [leaves];
  for (let level = leaves; level.length > 1; levels.push(level)) {
    const above: Hash[] = [];
    for (let i = 0; i < level.length; i += 2) {
      const [left, right] = [level[i], level[i + 1]];
      if (left !== undefined) above.push(right === undefined ? left : nodeHash(left, right));
    }
    level = above;
  }
  return {
    size: leaves.length,
    root: levels.at(-1)?.[0] ?? createHash('sha256').digest(),
    path(index) {
      if (!Number.isInteger(index) || index < 0 || index >= leaves.length)
        throw new RangeError(`no leaf ${index} in a tree of ${leaves.length}`);
      return levels.flatMap((level, height) => level[Math.floor(index / 2 ** height) ^ 1] ?? []);
    },
  };
}

/**
 * The root that an inclusion proof leads to (RFC 9162 §2.1.3.2); `undefined` where the proof has not the length that such a place in such a
 * tree takes. The caller compares it with the root that was signed.
 */
export function rootOfPath(leaf: Hash, index: number, size: number, path: readonly Hash[]): Hash | undefined {
  if (!Number.isSafeInteger(size) || !Number.isInteger(index) || index < 0 || index >= size) return undefined;
  let [node, last] = [index, size - 1];
  let hash = leaf;
  for (const sibling of path) {
    if (last === 0) return undefined;
    if (node % 2 === 1 || node === last) {
      hash = nodeHash(sibling, hash);
      // Levels where this node has no sibling.
      while (node % 2 === 0 && node > 0) [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
    } else hash = nodeHash(hash, sibling);
    [node, last] = [Math.floor(node / 2), Math.floor(last / 2)];
  }
  return last === 0 ? hash : undefined;
}
