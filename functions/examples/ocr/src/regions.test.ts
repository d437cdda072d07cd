import { expect, test } from 'vitest';
import { convexHull, cornersOf, grown, smallestRectangle, type Quad } from './geometry.ts';
import { joinLines } from './reading-order.ts';
import { findRegions } from './regions.ts';

/** A probability map drawn as text: `#` is 0.9, `+` 0.5, anything else nothing. */
function map(rows: readonly string[]) {
  const width = rows[0]?.length ?? 0;
  const probability = (mark: string) => (mark === '#' ? 0.9 : mark === '+' ? 0.5 : 0.01);
  return { values: Float32Array.from(rows.join(''), probability), width, height: rows.length };
}

function regionsOf(rows: readonly string[]) {
  const { values, width, height } = map(rows);
  return findRegions(values, width, height, 0.3);
}

test('areas that touch by a side or a corner are one region', () => {
  expect(regionsOf(['##....', '##..##', '..##..', '......'])).toHaveLength(1);
  expect(regionsOf(['##....', '##..##', '....##', '......'])).toHaveLength(2);
  // Two arms that meet only below.
  expect(regionsOf(['##..##', '##..##', '######'])).toHaveLength(1);
});

test('a region does not go on around the edge', () => {
  expect(regionsOf(['....##', '##....'])).toHaveLength(2);
});

test('the score is the mean of the pixels, the outline the ends of each run', () => {
  const [region] = regionsOf(['.....', '.####', '.++++', '.....']);
  expect(region?.score).toBeCloseTo(0.7);
  expect(region?.outline).toEqual([
    [1, 1],
    [4, 1],
    [1, 2],
    [4, 2],
  ]);
});

test('nothing, and everything', () => {
  expect(regionsOf(['....', '....'])).toEqual([]);
  expect(regionsOf(['####', '####'])).toHaveLength(1);
});

test.each([0, 7, 30, 44, 46, 60, 85, -20, -44])(
  'a rectangle turned by %i degrees is found, and its corners are in order',
  (degrees) => {
    const radians = (degrees * Math.PI) / 180;
    const drawn = { x: 100, y: 80, alongX: Math.cos(radians), alongY: Math.sin(radians), halfWidth: 40, halfHeight: 9 };
    const points = [...cornersOf(drawn)].sort((a, b) => a[1] - b[1] || a[0] - b[0]);
    const found = smallestRectangle(convexHull(points));
    expect([found.x, found.y]).toEqual([expect.closeTo(100, 6), expect.closeTo(80, 6)]);
    const sides = [found.halfWidth, found.halfHeight].sort((a, b) => a - b);
    expect(sides).toEqual([expect.closeTo(9, 6), expect.closeTo(40, 6)]);

    const [topLeft, topRight, bottomRight, bottomLeft] = cornersOf(grown(found, 2));
    expect(topLeft[0] + bottomLeft[0]).toBeLessThan(topRight[0] + bottomRight[0]);
    expect(topLeft[1] + topRight[1]).toBeLessThan(bottomLeft[1] + bottomRight[1]);
    const short = Math.min(
      Math.hypot(topRight[0] - topLeft[0], topRight[1] - topLeft[1]),
      Math.hypot(bottomLeft[0] - topLeft[0], bottomLeft[1] - topLeft[1]),
    );
    expect(short).toBeCloseTo(22, 6);
  },
);

test('a single point and a line have rectangles without area', () => {
  expect(smallestRectangle(convexHull([[3, 4]]))).toMatchObject({ x: 3, y: 4, halfWidth: 0, halfHeight: 0 });
  const line = smallestRectangle(
    convexHull([
      [0, 0],
      [1, 1],
      [2, 2],
    ]),
  );
  expect(Math.min(line.halfWidth, line.halfHeight)).toBeCloseTo(0);
});

test('fragments of one row become one line, rows go from top to bottom', () => {
  const box = (left: number, top: number): Quad => [
    [left, top],
    [left + 50, top],
    [left + 50, top + 20],
    [left, top + 20],
  ];
  const fragments = [
    { text: 'below', score: 0.8, box: box(0, 100) },
    { text: 'right', score: 0.6, box: box(200, 13) },
    { text: 'left', score: 1, box: box(0, 10) },
  ];
  expect(joinLines(fragments)).toEqual([
    {
      text: 'left right',
      score: 0.8,
      box: [
        [0, 10],
        [250, 13],
        [250, 33],
        [0, 30],
      ],
    },
    { text: 'below', score: 0.8, box: box(0, 100) },
  ]);
  expect(joinLines([])).toEqual([]);
});
