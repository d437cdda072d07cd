import { bitsOf, bitsOfNumber } from './float-order.ts';
import type { Point } from './geometry.ts';

/** A connected area of a probability map. */
export interface Region {
  /** Leftmost and rightmost pixel of each of its runs, by y and then x. */
  readonly outline: readonly Point[];
  /** Mean probability of its pixels, 0 to 1. */
  readonly score: number;
}

/** Most runs in a map; noise has more, and is not text. Each costs 20 bytes. */
const RUNS_MAX = 1 << 18;

/**
 * Areas of at least `threshold` that touch, also by a corner: union-find over runs of pixels.
 *
 * @param map `width` × `height` probabilities in rows
 */
export function findRegions(map: Float32Array, width: number, height: number, threshold: number): Region[] {
  const runs = findRuns(map, width, height, threshold);
  const regions = new Map<number, { outline: Point[]; sum: number; pixels: number }>();
  for (let run = 0; run < runs.count; run++) {
    const root = rootOf(runs.parent, run);
    let region = regions.get(root);
    if (region === undefined) regions.set(root, (region = { outline: [], sum: 0, pixels: 0 }));
    const [y = 0, from = 0, to = 0] = [runs.y[run], runs.from[run], runs.to[run]];
    region.outline.push([from, y], [to, y]);
    region.pixels += to - from + 1;
    region.sum += sumOf(map, y * width + from, y * width + to);
  }
  return Array.from(regions.values(), ({ outline, sum, pixels }) => ({ outline, score: sum / pixels }));
}

function sumOf(values: Float32Array, first: number, last: number): number {
  let sum = 0;
  for (let index = first; index <= last; index++) sum += values[index] as number;
  return sum;
}

/** Stretches of neighbouring pixels in a row, by y and then x; `parent` leads to the first run of the same region. */
interface Runs {
  readonly y: Int32Array;
  readonly from: Int32Array;
  readonly to: Int32Array;
  readonly parent: Int32Array;
  count: number;
}

function findRuns(map: Float32Array, width: number, height: number, threshold: number): Runs {
  const size = Math.min(RUNS_MAX, Math.ceil(width / 2) * height);
  const runs: Runs = {
    y: new Int32Array(size),
    from: new Int32Array(size),
    to: new Int32Array(size),
    parent: new Int32Array(size),
    count: 0,
  };
  const bits = bitsOf(map);
  const least = bitsOfNumber(threshold);
  let above = 0;
  for (let y = 0; y < height && runs.count < size; y++) {
    const rowStart = runs.count;
    addRow(runs, bits, least, y, width);
    joinRow(runs, above, rowStart);
    above = rowStart;
  }
  return runs;
}

/**
 * Adds the runs of row `y`, each a region of its own. Looks at every second pixel until it meets one, so a run of a single pixel
 * may be passed over: no text is that narrow, and most of a picture is not text.
 */
function addRow(runs: Runs, bits: Int32Array, least: number, y: number, width: number): void {
  const start = y * width;
  const end = start + width;
  for (let index = start; index < end; index += 2) {
    if ((bits[index] as number) < least) continue;
    if (runs.count === runs.y.length) return;
    const from = index > start && (bits[index - 1] as number) >= least ? index - 1 : index;
    while (index < end && (bits[index] as number) >= least) index++;
    runs.y[runs.count] = y;
    runs.from[runs.count] = from - start;
    runs.to[runs.count] = index - 1 - start;
    runs.parent[runs.count] = runs.count;
    runs.count++;
  }
}

/** Joins the runs from `rowStart` with those of the row above, from `above` to `rowStart`, that they touch. */
function joinRow({ from, to, parent, count }: Runs, above: number, rowStart: number): void {
  for (let run = rowStart; run < count; run++) {
    const [left = 0, right = 0] = [from[run], to[run]];
    // What ends before this run begins cannot touch a later one either.
    while (above < rowStart && (to[above] as number) < left - 1) above++;
    for (let other = above; other < rowStart && (from[other] as number) <= right + 1; other++) join(parent, other, run);
  }
}

function rootOf(parent: Int32Array, run: number): number {
  let root = run;
  while (parent[root] !== root) root = parent[root] as number;
  parent[run] = root;
  return root;
}

function join(parent: Int32Array, a: number, b: number): void {
  const [rootA, rootB] = [rootOf(parent, a), rootOf(parent, b)];
  // The earlier run is the root, so that regions come out in the order of their first pixel.
  if (rootA < rootB) parent[rootB] = rootA;
  else parent[rootA] = rootB;
}
