import type { Picture } from './picture.ts';

/** What a model was trained to see for each byte, 256 floats for each of blue, green and red. */
export interface Normalisation {
  readonly blue: Float32Array;
  readonly green: Float32Array;
  readonly red: Float32Array;
}

/**
 * `(byte / 255 - mean) / deviation`.
 *
 * @param mean, deviation for blue, green, red
 */
export function normalisation(
  mean: readonly [number, number, number],
  deviation: readonly [number, number, number],
): Normalisation {
  const table = (m: number, d: number) => Float32Array.from({ length: 256 }, (_, byte) => (byte / 255 - m) / d);
  return {
    blue: table(mean[0], deviation[0]),
    green: table(mean[1], deviation[1]),
    red: table(mean[2], deviation[2]),
  };
}

/** The picture at `scale` in the top left of `width` × `height`; what is left over is black. */
export interface Canvas {
  readonly scale: number;
  readonly width: number;
  readonly height: number;
  readonly normalisation: Normalisation;
}

// The loops of this file and of crop.ts are plain, one row a call, and calculate in small integers: a fresh isolate
// interprets them first, where a fraction is a heap object and an integer is not, and swaps in compiled code between calls.

/** The picture as three planes of floats, [3, height, width], bilinear when it has to shrink. */
export function scaledPlanes(picture: Picture, { scale, width, height, normalisation }: Canvas): Float32Array {
  const out = new Float32Array(3 * width * height);
  const columns = Math.min(width, Math.round(picture.width * scale));
  const rows = Math.min(height, Math.round(picture.height * scale));
  const source = samplesAlong(picture.width, columns, scale);
  const down = samplesAlong(picture.height, rows, scale);
  for (let y = 0; y < rows; y++) {
    const at = y * width;
    const [top = 0, share = 0] = [down.first[y], down.share[y]];
    if (scale === 1) copyRow(picture, y, normalisation, out, at, width * height, columns);
    else scaleRow(picture, top, share, source, normalisation, out, at, width * height, columns);
  }
  fillRest(out, { scale, width, height, normalisation }, columns, rows);
  return out;
}

/** For each output pixel on an axis: the first of the two source pixels around its centre, and the second's share of 256. */
interface Samples {
  readonly first: Int32Array;
  readonly share: Int32Array;
}

function samplesAlong(length: number, count: number, scale: number): Samples {
  const [first, share] = [new Int32Array(count), new Int32Array(count)];
  for (let index = 0; index < count; index++) {
    const at = Math.min(Math.max((index + 0.5) / scale - 0.5, 0), length - 1);
    // The last pixel has no second one; all of the second-last's second is the same.
    const whole = Math.max(Math.min(Math.floor(at), length - 2), 0);
    first[index] = whole;
    share[index] = Math.round((at - whole) * 256);
  }
  return { first, share };
}

function copyRow(
  { data, width }: Picture,
  y: number,
  { blue, green, red }: Normalisation,
  out: Float32Array,
  start: number,
  plane: number,
  columns: number,
): void {
  let from = y * width * 3;
  for (let to = start; to < start + columns; to++) {
    out[to] = blue[data[from] as number] as number;
    out[to + plane] = green[data[from + 1] as number] as number;
    out[to + 2 * plane] = red[data[from + 2] as number] as number;
    from += 3;
  }
}

function scaleRow(
  { data, width, height }: Picture,
  top: number,
  share: number,
  across: Samples,
  { blue, green, red }: Normalisation,
  out: Float32Array,
  start: number,
  plane: number,
  columns: number,
): void {
  const { first, share: shares } = across;
  const row = top * width * 3;
  const next = width > 1 ? 3 : 0;
  const below = height > 1 ? width * 3 : 0;
  let to = start;
  for (let x = 0; x < columns; x++) {
    const a = row + (first[x] as number) * 3;
    const b = a + next;
    const c = a + below;
    const d = b + below;
    const right = shares[x] as number;
    const wd = right * share;
    const wb = (right << 8) - wd;
    const wc = (share << 8) - wd;
    const wa = 65536 - wb - (share << 8);
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
    to++;
  }
}

/** Black right of `columns` and below `rows`. */
function fillRest(out: Float32Array, { width, height, normalisation }: Canvas, columns: number, rows: number): void {
  const { blue, green, red } = normalisation;
  [blue, green, red].forEach((table, index) => {
    const black = table[0] ?? 0;
    const start = index * width * height;
    if (columns < width) {
      for (let y = 0; y < rows; y++) out.fill(black, start + y * width + columns, start + (y + 1) * width);
    }
    out.fill(black, start + rows * width, start + height * width);
  });
}
