import type { Model } from '../../../sdk/index.ts';
import { cropLine, lineIn, LINE_HEIGHT, type Line } from './crop.ts';
import { decodeText, type Reading } from './ctc.ts';
import type { Quad } from './geometry.ts';
import { normalisation } from './planes.ts';
import type { Pyramid } from './pyramid.ts';

/** Bytes as 0 to 1. PaddleOCR centres them on 0, but then the exported model drops most spaces between English words. */
const NORMALISATION = normalisation([0, 0, 0], [1, 1, 1]);
/** Widest line, in pixels at the recogniser's height: some 200 letters. */
const WIDTH_MAX = 3200;
/** Pixels in a row of one batch, padding included: bounds its memory (each is 3 floats in, 828 floats out, for 48 rows). */
const BATCH_WIDTH_MAX = 4800;
/** Share of a batch's narrowest line that may be padding. Padding costs as much as text; a call costs little. */
const PADDING_MAX = 0.12;

/**
 * Reads each line.
 *
 * @param model input `x` float32 [lines, 3, 48, width]; its one output is the probability of each key, [lines, steps, keys]
 * @returns readings in the order of `boxes`
 */
export async function recogniseLines(pyramid: Pyramid, boxes: readonly Quad[], model: Model): Promise<Reading[]> {
  const lines = boxes.map((box) => lineIn(box, WIDTH_MAX));
  const readings: Reading[] = [];
  for (const batch of batchesOf(lines)) {
    const width = Math.max(...batch.map(({ line }) => line.width));
    const size = 3 * LINE_HEIGHT * width;
    const pixels = new Float32Array(batch.length * size);
    batch.forEach(({ line }, index) => cropLine(pyramid, line, NORMALISATION, pixels, index * size, width));
    const outputs = await model.run({ x: new Tensor('float32', pixels, [batch.length, 3, LINE_HEIGHT, width]) });
    const output = outputs[model.outputs[0]?.name ?? ''];
    if (!(output?.data instanceof Float32Array)) throw new TypeError('the recogniser did not return probabilities');
    const [, steps = 0, keys = 0] = output.dims;
    for (const [index, { position }] of batch.entries())
      readings[position] = decodeText(output.data, index * steps * keys, steps, keys);
  }
  return readings;
}

interface Placed {
  readonly line: Line;
  /** Place in the answer. */
  readonly position: number;
}

/** Lines of like width together, so that one call reads several and little of it is padding. */
function batchesOf(lines: readonly Line[]): Placed[][] {
  const placed = lines.map((line, position) => ({ line, position })).sort((a, b) => a.line.width - b.line.width);
  const batches: Placed[][] = [];
  for (const entry of placed) {
    const batch = batches.at(-1);
    const narrowest = batch?.[0]?.line.width ?? 0;
    const { width } = entry.line;
    if (batch && width <= narrowest * (1 + PADDING_MAX) && width * (batch.length + 1) <= BATCH_WIDTH_MAX)
      batch.push(entry);
    else batches.push([entry]);
  }
  return batches;
}
