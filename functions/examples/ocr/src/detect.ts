import type { Model } from '../../../sdk/index.ts';
import { convexHull, cornersOf, grown, smallestRectangle, type Point, type Quad } from './geometry.ts';
import { findRegions, type Region } from './regions.ts';
import { normalisation, scaledPlanes } from './planes.ts';
import { levelFor, type Pyramid } from './pyramid.ts';

/** Longest side the detector sees, in pixels: PaddleOCR's `det_limit_side_len`. */
const SIDE_MAX = 960;
/** The network halves five times, so sides are multiples of this. */
const SIDE_MULTIPLE = 32;
/** Probability from which a pixel is text: `det_db_thresh`. */
const PIXEL_THRESHOLD = 0.3;
/** Mean probability from which an area is a line: `det_db_box_thresh`. */
const REGION_THRESHOLD = 0.6;
/** The network learnt text shrunk to its core; this grows it back: `det_db_unclip_ratio`. */
const UNCLIP_RATIO = 1.5;
/** Shorter side of an area worth reading, in pixels of the detector's input. */
const SHORT_SIDE_MIN = 3;
/** Most lines of one picture. Noise finds more; the first ones from the top are read. */
const LINES_MAX = 1000;

/** Mean and deviation of ImageNet for red, green, blue, which PaddleOCR applies to blue, green, red. */
const NORMALISATION = normalisation([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/**
 * Finds the lines of text in a picture: differentiable binarisation (Liao et al. 2020), as the parameters of PP-OCRv4 have it.
 *
 * @param model input `x` float32 [1, 3, height, width]; its one output is the probability of text, [1, 1, height, width]
 * @returns the corners of each line, in pixels of the picture; they may lie a little outside it
 */
export async function detectLines(pyramid: Pyramid, model: Model): Promise<Quad[]> {
  const { width: fullWidth, height: fullHeight } = levelFor(pyramid, 1).picture;
  const scale = Math.min(1, SIDE_MAX / Math.max(fullWidth, fullHeight));
  const width = multiple(fullWidth * scale);
  const height = multiple(fullHeight * scale);
  const from = levelFor(pyramid, scale);
  const planes = scaledPlanes(from.picture, { scale: from.scale, width, height, normalisation: NORMALISATION });
  const outputs = await model.run({ x: new Tensor('float32', planes, [1, 3, height, width]) });
  const map = outputs[model.outputs[0]?.name ?? '']?.data;
  if (!(map instanceof Float32Array)) throw new TypeError('the detector did not return a probability map');

  const regions = findRegions(map, width, height, PIXEL_THRESHOLD);
  const lines = regions.map((region) => lineOf(region, scale)).filter((line) => line !== undefined);
  return lines.slice(0, LINES_MAX);
}

function multiple(length: number): number {
  return Math.max(1, Math.ceil(Math.round(length) / SIDE_MULTIPLE)) * SIDE_MULTIPLE;
}

/** The rectangle of the text whose core is `region`; `undefined` when it is too faint or too small to read. */
function lineOf({ outline, score }: Region, scale: number): Quad | undefined {
  if (score < REGION_THRESHOLD) return undefined;
  const core = smallestRectangle(convexHull(outline));
  const [width, height] = [core.halfWidth * 2, core.halfHeight * 2];
  if (Math.min(width, height) < SHORT_SIDE_MIN) return undefined;
  // Area × ratio ÷ perimeter, the offset of Vatti clipping in the paper. A rectangle grown by it is again a rectangle.
  const distance = (width * height * UNCLIP_RATIO) / (2 * (width + height));
  const [a, b, c, d] = cornersOf(grown(core, distance));
  const scaled = ([x, y]: Point): Point => [x / scale, y / scale];
  return [scaled(a), scaled(b), scaled(c), scaled(d)];
}
