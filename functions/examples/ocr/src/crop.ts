import type { Point, Quad } from './geometry.ts';
import type { Normalisation } from './planes.ts';
import type { Picture } from './picture.ts';
import { levelFor, type Pyramid } from './pyramid.ts';

/** Height of what the recogniser reads, in pixels. */
export const LINE_HEIGHT = 48;
/** A box this many times as high as wide holds text on its side (PaddleOCR). */
const UPRIGHT_RATIO = 1.5;

/** A line to be read: the corner where its text begins, the way of its text and the way down, each one output pixel long. */
export interface Line {
  readonly origin: Point;
  readonly across: Point;
  readonly down: Point;
  /** Width at {@link LINE_HEIGHT}, in pixels. */
  readonly width: number;
}

/** How a box is read: along its longer side, turned to the left when it stands. */
export function lineIn([topLeft, topRight, bottomRight, bottomLeft]: Quad, widthMax: number): Line {
  const upright = distance(topLeft, bottomLeft) >= UPRIGHT_RATIO * distance(topLeft, topRight);
  const [origin, end, below] = upright ? [topRight, bottomRight, topLeft] : [topLeft, topRight, bottomLeft];
  const ratio = distance(origin, end) / Math.max(distance(origin, below), 1);
  const width = Math.min(Math.max(Math.ceil(LINE_HEIGHT * ratio), 1), widthMax);
  const per = (to: Point, pixels: number): Point => [(to[0] - origin[0]) / pixels, (to[1] - origin[1]) / pixels];
  return { origin, across: per(end, width), down: per(below, LINE_HEIGHT), width };
}

function distance([ax, ay]: Point, [bx, by]: Point): number {
  return Math.hypot(bx - ax, by - ay);
}

/**
 * Writes a line's pixels as three planes [3, LINE_HEIGHT, rowWidth] from `start` of `out`, bilinear. Outside the picture its
 * nearest pixel counts.
 */
export function cropLine(
  pyramid: Pyramid,
  full: Line,
  normalisation: Normalisation,
  out: Float32Array,
  start: number,
  rowWidth: number,
): void {
  const { picture, level } = levelFor(pyramid, 1 / Math.hypot(...full.down));
  const line = scaledLine(full, 0.5 ** level);
  for (let row = 0; row < LINE_HEIGHT; row++) {
    cropRow(picture, line, row, normalisation, out, start + row * rowWidth, LINE_HEIGHT * rowWidth);
  }
}

function scaledLine({ origin, across, down, width }: Line, scale: number): Line {
  const scaled = ([x, y]: Point): Point => [x * scale, y * scale];
  return { origin: scaled(origin), across: scaled(across), down: scaled(down), width };
}

/** One row of a line, of `line.width` pixels. Coordinates are integers in 1/65536 pixel, see planes.ts. */
function cropRow(
  { data, width, height }: Picture,
  { origin, across, down, width: columns }: Line,
  row: number,
  { blue, green, red }: Normalisation,
  out: Float32Array,
  start: number,
  plane: number,
): void {
  const pitch = width * 3;
  const xMax = (width - 1) << 16;
  const yMax = (height - 1) << 16;
  const stepX = Math.round(across[0] * 65536);
  const stepY = Math.round(across[1] * 65536);
  // The centre of the row's first pixel; that of a picture's pixel is at its half, too.
  let lineX = Math.round((origin[0] + across[0] / 2 + down[0] * (row + 0.5) - 0.5) * 65536);
  let lineY = Math.round((origin[1] + across[1] / 2 + down[1] * (row + 0.5) - 0.5) * 65536);
  for (let to = start; to < start + columns; to++) {
    const x = lineX < 0 ? 0 : lineX > xMax ? xMax : lineX;
    const y = lineY < 0 ? 0 : lineY > yMax ? yMax : lineY;
    lineX += stepX;
    lineY += stepY;
    const a = (y >> 16) * pitch + (x >> 16) * 3;
    const b = x < xMax ? a + 3 : a;
    const below = y < yMax ? pitch : 0;
    const c = a + below;
    const d = b + below;
    const right = (x >> 8) & 255;
    const lower = (y >> 8) & 255;
    const wd = right * lower;
    const wb = (right << 8) - wd;
    const wc = (lower << 8) - wd;
    const wa = 65536 - wb - (lower << 8);
    const v0 =
      (data[a] as number) * wa + (data[b] as number) * wb + (data[c] as number) * wc + (data[d] as number) * wd;
    const v1 =
      (data[a + 1] as number) * wa +
      (data[b + 1] as number) * wb +
      (data[c + 1] as number) * wc +
      (data[d + 1] as number) * wd;
    const v2 =
      (data[a + 2] as number) * wa +
      (data[b + 2] as number) * wb +
      (data[c + 2] as number) * wc +
      (data[d + 2] as number) * wd;
    out[to] = blue[(v0 + 32768) >> 16] as number;
    out[to + plane] = green[(v1 + 32768) >> 16] as number;
    out[to + 2 * plane] = red[(v2 + 32768) >> 16] as number;
  }
}
