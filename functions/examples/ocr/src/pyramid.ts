import type { Picture } from './picture.ts';

/** A picture and its halves: each level has half the sides of the one before. Level 0 is the picture. */
export type Pyramid = Picture[];

/**
 * The level from which to shrink by `scale`: bilinear sampling looks at four pixels only, and loses strokes when it shrinks to
 * less than half. Levels are made when first asked for.
 *
 * @param scale output pixels for each pixel of the picture
 * @returns the level, and the scale that is left to do
 */
export function levelFor(pyramid: Pyramid, scale: number): { picture: Picture; level: number; scale: number } {
  let level = 0;
  let picture = levelAt(pyramid, 0);
  while (scale <= 0.5 && Math.min(picture.width, picture.height) > 1) {
    level++;
    scale *= 2;
    picture = levelAt(pyramid, level);
  }
  return { picture, level, scale };
}

function levelAt(pyramid: Pyramid, level: number): Picture {
  const known = pyramid[level];
  if (known) return known;
  return (pyramid[level] = halved(levelAt(pyramid, level - 1)));
}

/** Means of 2 × 2 pixels; an odd last row or column is left out. */
function halved({ width: fullWidth, height: fullHeight, data }: Picture): Picture {
  const width = fullWidth >> 1;
  const height = fullHeight >> 1;
  const half = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y++) halveRow(data, y * 2 * fullWidth * 3, fullWidth * 3, half, y * width * 3, width);
  return { width, height, data: half };
}

function halveRow(
  data: Uint8Array,
  above: number,
  pitch: number,
  half: Uint8Array,
  start: number,
  width: number,
): void {
  let a = above;
  for (let to = start; to < start + width * 3; a += 3) {
    for (const next = to + 3; to < next; to++, a++) {
      const c = a + pitch;
      const sum = (data[a] as number) + (data[a + 3] as number) + (data[c] as number) + (data[c + 3] as number);
      half[to] = (sum + 2) >> 2;
    }
  }
}
