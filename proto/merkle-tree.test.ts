import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { leafHash, merkleTree, rootOfPath } from './merkle-tree.ts';

const hex = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString('hex');

// The test data of certificate-transparency (cpp/merkletree/merkle_tree_test.cc, go: merkle/testdata): leaves, and the roots of the first n.
const LEAVES = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f'].map(
  (text) => leafHash(Buffer.from(text, 'hex')),
);
const ROOTS = [
  'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];
// PathTestVector: leaf (from 1), tree size, path.
const PATHS: readonly [leaf: number, size: number, path: readonly string[]][] = [
  [1, 1, []],
  [
    1,
    8,
    [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  ],
  [
    6,
    8,
    [
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  ],
  [3, 3, ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125']],
  [
    2,
    5,
    [
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  ],
];

describe('the vectors of certificate-transparency', () => {
  test.each(ROOTS.map((root, size) => [size, root]))('the root of %i leaves', (size, root) => {
    expect(hex(merkleTree(LEAVES.slice(0, Number(size))).root)).toBe(root);
  });
  test.each(PATHS)('the path of leaf %i of %i', (leaf, size, path) => {
    const tree = merkleTree(LEAVES.slice(0, size));
    expect(tree.path(leaf - 1).map(hex)).toEqual(path);
    const root = rootOfPath(LEAVES[leaf - 1] ?? new Uint8Array(), leaf - 1, size, tree.path(leaf - 1));
    expect(hex(root)).toBe(ROOTS[size]);
  });
});

const trees = fc.integer({ min: 1, max: 70 }).chain((size) => fc.tuple(fc.constant(size), fc.nat(size - 1)));

test('every leaf of every tree is proven', () => {
  fc.assert(
    fc.property(trees, ([size, index]) => {
      const leaves = Array.from({ length: size }, (_, i) => leafHash(Uint8Array.of(i)));
      const tree = merkleTree(leaves);
      expect(rootOfPath(leaves[index] ?? new Uint8Array(), index, size, tree.path(index))).toEqual(tree.root);
    }),
  );
});

test('refuses another leaf, place, size, and a path that is shorter, longer or altered', () => {
  fc.assert(
    fc.property(trees, fc.nat(), fc.nat(31), ([size, index], at, byte) => {
      const leaves = Array.from({ length: size }, (_, i) => leafHash(Uint8Array.of(i)));
      const leaf = leaves[index] ?? new Uint8Array();
      const tree = merkleTree(leaves);
      const { root } = tree;
      const path = tree.path(index);
      const refused = (...args: Parameters<typeof rootOfPath>): void => expect(rootOfPath(...args)).not.toEqual(root);
      refused(leafHash(Uint8Array.of(200)), index, size, path);
      if (size > 1) refused(leaf, (index + 1) % size, size, path);
      refused(leaf, size, size, path);
      refused(leaf, -1, size, path);
      refused(leaf, index, size, [...path, root]);
      if (path.length > 0) {
        refused(leaf, index, size, path.slice(1));
        const altered = path.map((hash) => Uint8Array.from(hash));
        const hit = altered[at % altered.length];
        if (hit !== undefined) hit[byte] = (hit[byte] ?? 0) ^ 1;
        refused(leaf, index, size, altered);
      }
    }),
  );
});

test('a tree has no leaf outside it', () => {
  expect(() => merkleTree(LEAVES).path(8)).toThrow(RangeError);
});
