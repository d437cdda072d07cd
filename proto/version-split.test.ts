import { expect, test } from 'vitest';
import { stickyPoint, versionAt } from './version-split.ts';

const [a, b] = ['a'.repeat(64), 'b'.repeat(64)];
const points = await Promise.all(Array.from({ length: 2_000 }, (_, i) => stickyPoint('acme/echo', `caller ${i}`)));
const chosen = (percent: number, order: (split: { version: string; percent: number }[]) => object[] = (it) => it) =>
  points.map(
    (point) =>
      versionAt(
        order([
          { version: a, percent: 100 - percent },
          { version: b, percent },
        ]) as never,
        point,
      )?.version,
  );
const got = (percent: number): number => chosen(percent).filter((version) => version === b).length;

test('a version gets its share of keys', () => {
  expect(got(0)).toBe(0);
  expect(got(100)).toBe(2_000);
  expect(got(10)).toBeGreaterThan(150);
  expect(got(10)).toBeLessThan(250);
});

test('who got the new version keeps it while its percentage grows', () => {
  const [some, more] = [chosen(10), chosen(40)];
  for (const [i, version] of some.entries()) if (version === b) expect(more[i]).toBe(b);
});

test('the order of writing changes nothing', () => {
  expect(chosen(30, (it) => it.toReversed())).toEqual(chosen(30));
});

test('one key has other points in other functions', async () => {
  expect(await stickyPoint('acme/echo', 'ann')).toBe(await stickyPoint('acme/echo', 'ann'));
  expect(await stickyPoint('acme/echo', 'ann')).not.toBe(await stickyPoint('acme/other', 'ann'));
});

test('nothing deployed, nothing chosen', () => {
  expect(versionAt([], 5)).toBeUndefined();
  expect(versionAt([{ version: a, percent: 0 }], 5)).toBeUndefined();
});
