import { expect, test } from 'vitest';
import { parseVersionSpecs } from './version-specs.ts';

const [a, b, c] = ['a'.repeat(64), 'b'.repeat(64), `b${'c'.repeat(63)}`];
const known = [a, b, c];
const parse = (...specs: string[]): unknown =>
  parseVersionSpecs(specs, known).map(({ version, percent }) => [version[1], percent]);

test.each([
  [
    [`${a}@90`, 'bbbbbb@10'],
    [
      ['a', 90],
      ['b', 10],
    ],
  ],
  [
    ['aaaaaa@90%', 'bbbbbb'],
    [
      ['a', 90],
      ['b', 10],
    ],
  ],
  [['aaaaaa'], [['a', 100]]],
  [
    ['aaaaaa', 'bccccc'],
    [
      ['a', 50],
      ['c', 50],
    ],
  ],
  [
    ['aaaaaa@100', 'bbbbbb@0'],
    [
      ['a', 100],
      ['b', 0],
    ],
  ],
])('%j', (specs, shares) => expect(parse(...specs)).toEqual(shares));

test.each([
  [[]],
  [['aaaaaa', 'bbbbbb', 'bccccc']],
  [['aaa@100']],
  [['aaaaaa@90', 'bbbbbb@20']],
  [['aaaaaa@90']],
  [['dddddd@100']],
  [['aaaaaa@1000']],
  [['aaaaaa@-1']],
])('%j is refused', (specs) =>
  expect(() => parse(...specs)).toThrowError(expect.objectContaining({ code: 'CFN_USAGE' }) as Error),
);
