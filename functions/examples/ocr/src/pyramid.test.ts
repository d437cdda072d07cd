import { expect, test } from 'vitest';
import { cropLine, lineIn, LINE_HEIGHT } from './crop.ts';
import type { Quad } from './geometry.ts';
import { normalisation, scaledPlanes } from './planes.ts';
import { levelFor } from './pyramid.ts';

const BYTES = normalisation([0, 0, 0], [1 / 255, 1 / 255, 1 / 255]);

/** A picture whose blue byte is x, green y, red their sum. */
function gradient(width: number, height: number) {
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) data.set([x, y, x + y], (y * width + x) * 3);
  }
  return { width, height, data };
}

test('the level chosen leaves less than a halving to do', () => {
  const pyramid = [gradient(100, 80)];
  expect(levelFor(pyramid, 1)).toMatchObject({ level: 0, scale: 1 });
  expect(levelFor(pyramid, 0.51)).toMatchObject({ level: 0, scale: 0.51 });
  const { level, scale, picture } = levelFor(pyramid, 0.2);
  expect({ level, scale, width: picture.width, height: picture.height }).toEqual({
    level: 2,
    scale: 0.8,
    width: 25,
    height: 20,
  });
  // The first pixel is the mean of 4 × 4.
  expect([...picture.data.subarray(0, 3)].map((byte) => Math.abs(byte - 1.5) <= 1.5)).toEqual([true, true, true]);
  expect(levelFor([gradient(1, 1)], 0.001)).toMatchObject({ level: 0 });
});

test('planes at scale 1 are the bytes, with black to the right and below', () => {
  const planes = scaledPlanes(gradient(3, 2), { scale: 1, width: 4, height: 3, normalisation: BYTES });
  expect([...planes].map(Math.round)).toEqual([
    0, 1, 2, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 1, 2, 3, 0, 0, 0, 0, 0,
  ]);
});

test('planes at another scale keep a gradient', () => {
  const planes = scaledPlanes(gradient(200, 100), { scale: 0.8, width: 160, height: 80, normalisation: BYTES });
  for (const [x, y] of [
    [0, 0],
    [80, 40],
    [159, 79],
  ] as const) {
    expect(Math.abs((planes[y * 160 + x] ?? 0) - ((x + 0.5) / 0.8 - 0.5))).toBeLessThanOrEqual(1);
    expect(Math.abs((planes[(80 + y) * 160 + x] ?? 0) - ((y + 0.5) / 0.8 - 0.5))).toBeLessThanOrEqual(1);
  }
});

test('a crop follows its box, and a standing box is read from its right side', () => {
  const picture = gradient(200, 100);
  const crop = (box: Quad) => {
    const line = lineIn(box, 3200);
    const out = new Float32Array(3 * LINE_HEIGHT * line.width);
    cropLine([picture], line, BYTES, out, 0, line.width);
    return {
      width: line.width,
      at: (row: number, column: number, plane: number) => out[(plane * LINE_HEIGHT + row) * line.width + column] ?? 0,
    };
  };
  const level = crop([
    [20, 10],
    [116, 10],
    [116, 34],
    [20, 34],
  ]);
  expect(level.width).toBe(192);
  expect(Math.abs(level.at(0, 0, 0) - 20)).toBeLessThanOrEqual(1);
  expect(Math.abs(level.at(47, 191, 0) - 115)).toBeLessThanOrEqual(1);
  expect(Math.abs(level.at(47, 0, 1) - 33)).toBeLessThanOrEqual(1);

  const standing = crop([
    [20, 10],
    [44, 10],
    [44, 82],
    [20, 82],
  ]);
  expect(standing.width).toBe(144);
  // The text begins at the top right, and goes down.
  expect(Math.abs(standing.at(0, 0, 0) - 43)).toBeLessThanOrEqual(1);
  expect(Math.abs(standing.at(0, 0, 1) - 10)).toBeLessThanOrEqual(1);
  expect(Math.abs(standing.at(0, 143, 1) - 81)).toBeLessThanOrEqual(1);
  expect(Math.abs(standing.at(47, 0, 0) - 20)).toBeLessThanOrEqual(1);

  // Outside the picture its edge goes on.
  expect(
    crop([
      [-20, -20],
      [28, -20],
      [28, 28],
      [-20, 28],
    ]).at(0, 0, 0),
  ).toBe(0);
});
