import type { FunctionModule, Model, TensorConstructor } from '../../../sdk/index.ts';
import { detectLines } from './detect.ts';
import type { Point, Quad } from './geometry.ts';
import { decodePicture, IMAGE_BYTES_MAX, type Picture } from './picture.ts';
import { ImageRefused, problemResponse } from './problem.ts';
import type { Pyramid } from './pyramid.ts';
import { joinLines } from './reading-order.ts';
import { recogniseLines } from './recognise.ts';

declare global {
  // oxlint-disable-next-line no-var -- how TypeScript declares a global
  var Tensor: TensorConstructor;
}

interface Env {
  readonly DETECT: Model;
  readonly RECOGNISE: Model;
}

/** A line whose letters are less certain than this on average is no text: PaddleOCR's `drop_score`. */
const SCORE_MIN = 0.5;

const ocr: FunctionModule<Env> = {
  async fetch(request, env) {
    try {
      const picture = decodePicture(await imageIn(request));
      const pyramid: Pyramid = [picture];
      const boxes = await detectLines(pyramid, env.DETECT);
      const readings = await recogniseLines(pyramid, boxes, env.RECOGNISE);
      const fragments = boxes
        .map((box, index) => ({ box, ...(readings[index] ?? { text: '', score: 0 }) }))
        .filter(({ score }) => score >= SCORE_MIN);
      const lines = joinLines(fragments).map(({ text, score, box }) => {
        return { text, score: rounded(score, 1000), box: withinPicture(box, picture) };
      });
      return Response.json({ lines, image: { width: picture.width, height: picture.height } });
    } catch (error) {
      if (error instanceof ImageRefused) return problemResponse(error);
      throw error;
    }
  },
};
export default ocr;

async function imageIn(request: Request): Promise<Uint8Array> {
  if (request.method !== 'POST') {
    throw new ImageRefused('EXAMPLE_METHOD', `expected POST, got ${request.method}`);
  }
  const claimed = Number(request.headers.get('content-length') ?? 0);
  if (claimed > IMAGE_BYTES_MAX) {
    throw new ImageRefused('EXAMPLE_TOO_LARGE', `expected at most ${IMAGE_BYTES_MAX} bytes, got ${claimed}`);
  }
  return new Uint8Array(await request.arrayBuffer());
}

/** Corners to a tenth of a pixel. A box is grown around its text and may reach past the picture. */
function withinPicture(box: Quad, { width, height }: Picture): Point[] {
  return box.map(([x, y]) => [rounded(clamp(x, width), 10), rounded(clamp(y, height), 10)]);
}

function clamp(value: number, max: number): number {
  return Math.min(Math.max(value, 0), max);
}

function rounded(value: number, steps: number): number {
  return Math.round(value * steps) / steps;
}
