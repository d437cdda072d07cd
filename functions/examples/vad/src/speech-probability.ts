import type { Model } from '../../../sdk/index.ts';
import type { Recording } from './wav.ts';

/** Length of what the model judges at once, in seconds: 512 samples at 16 kHz, 256 at 8 kHz. */
export const CHUNK_SECONDS = 0.032;
/**
 * Samples of the chunk before that each chunk begins with, in seconds. The model file does not say that it wants them; without
 * them it finds almost no speech (snakers4/silero-vad, `OnnxWrapper`).
 */
const CONTEXT_SECONDS = 0.004;

/**
 * How likely there is speech, chunk by chunk. The model is recurrent: the state that a call returns is fed to the next.
 *
 * @param model inputs `input` float32 [1, context + chunk], `state` float32 [2, 1, 128], `sr` int64 []; outputs `output` [1, 1]
 *   and `stateN`
 * @returns a probability for each chunk; silence fills up the last
 */
export async function speechProbabilities({ rate, samples }: Recording, model: Model): Promise<Float32Array> {
  const chunk = rate * CHUNK_SECONDS;
  const context = rate * CONTEXT_SECONDS;
  const probabilities = new Float32Array(Math.ceil(samples.length / chunk));
  const sampleRate = new Tensor('int64', BigInt64Array.of(BigInt(rate)), []);
  let state = new Tensor('float32', new Float32Array(2 * 128), [2, 1, 128]);
  for (let index = 0; index < probabilities.length; index++) {
    const heard = new Float32Array(context + chunk);
    const from = index * chunk - context;
    heard.set(samples.subarray(Math.max(from, 0), from + heard.length), Math.max(-from, 0));
    const input = new Tensor('float32', heard, [1, heard.length]);
    // oxlint-disable-next-line no-await-in-loop -- each call needs the state that the one before returns
    const { output, stateN } = await model.run({ input, state, sr: sampleRate });
    if (!(output?.data instanceof Float32Array) || !(stateN?.data instanceof Float32Array)) {
      throw new TypeError('the model did not return a probability and a state');
    }
    probabilities[index] = output.data[0] ?? 0;
    state = new Tensor('float32', stateN.data, [2, 1, 128]);
  }
  return probabilities;
}
