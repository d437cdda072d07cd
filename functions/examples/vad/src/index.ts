import type { FunctionModule, Model, TensorConstructor } from '../../../sdk/index.ts';
import { problemResponse, RecordingRefused } from './problem.ts';
import { findSegments } from './segments.ts';
import { CHUNK_SECONDS, speechProbabilities } from './speech-probability.ts';
import { parseWav } from './wav.ts';

declare global {
  // oxlint-disable-next-line no-var -- how TypeScript declares a global
  var Tensor: TensorConstructor;
}

interface Env {
  readonly VAD: Model;
}

/** Largest body, in bytes: six minutes at 16 kHz, mono; each second costs 31 calls of the model. */
const WAV_BYTES_MAX = 12 * 1024 * 1024;

const vad: FunctionModule<Env> = {
  async fetch(request, env) {
    try {
      const recording = parseWav(await wavIn(request));
      const seconds = recording.samples.length / recording.rate;
      const segments = findSegments(await speechProbabilities(recording, env.VAD), CHUNK_SECONDS, seconds);
      const speech = segments.reduce((sum, { startSeconds, endSeconds }) => sum + endSeconds - startSeconds, 0);
      return Response.json({
        segments: segments.map(({ startSeconds, endSeconds }) => {
          return { startSeconds: rounded(startSeconds), endSeconds: rounded(endSeconds) };
        }),
        seconds: rounded(seconds),
        speechRatio: rounded(seconds === 0 ? 0 : speech / seconds),
      });
    } catch (error) {
      if (error instanceof RecordingRefused) return problemResponse(error);
      throw error;
    }
  },
};
export default vad;

async function wavIn(request: Request): Promise<Uint8Array> {
  if (request.method !== 'POST') throw new RecordingRefused('EXAMPLE_METHOD', `expected POST, got ${request.method}`);
  const claimed = Number(request.headers.get('content-length') ?? 0);
  if (claimed > WAV_BYTES_MAX) refuseSize(claimed);
  const bytes = new Uint8Array(await request.arrayBuffer());
  if (bytes.length > WAV_BYTES_MAX) refuseSize(bytes.length);
  return bytes;
}

function refuseSize(bytes: number): never {
  throw new RecordingRefused('EXAMPLE_TOO_LARGE', `expected at most ${WAV_BYTES_MAX} bytes, got ${bytes}`);
}

/** To three decimals. */
function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}
