import { bitsOf, bitsOfNumber } from './float-order.ts';
import keysText from './ppocr_keys_v1.txt';

/** What a line says. */
export interface Reading {
  readonly text: string;
  /** Mean probability of its letters, 0 to 1; 0 when there are none. */
  readonly score: number;
}

/** Key 0 is the blank of connectionist temporal classification; after the file's keys comes the space. */
const BLANK = 0;
const ONE_HALF = bitsOfNumber(0.5);
const KEYS = ['', ...keysText.split('\n'), ' '];

/**
 * Greedy decoding (Graves et al. 2006): the likeliest key of each step, repeats once, blanks left out.
 *
 * @param probabilities [steps, keys] from `start`
 */
export function decodeText(probabilities: Float32Array, start: number, steps: number, keys: number): Reading {
  if (keys !== KEYS.length) throw new TypeError(`the recogniser has ${keys} keys, and ${KEYS.length} are known`);
  const bits = bitsOf(probabilities);
  let text = '';
  let sum = 0;
  let letters = 0;
  let previous = BLANK;
  for (let step = 0; step < steps; step++) {
    const from = start + step * keys;
    const best = likeliest(bits, from, from + keys);
    const key = best - from;
    if (key !== BLANK && key !== previous) {
      text += KEYS[key];
      sum += probabilities[best] ?? 0;
      letters++;
    }
    previous = key;
  }
  return { text, score: letters === 0 ? 0 : sum / letters };
}

/**
 * Index of the largest value, of floats given as their bits. They are probabilities that add up to 1, so the first above one
 * half ends the search, and since most steps are blank, which is key 0, it mostly ends at once.
 */
function likeliest(bits: Int32Array, from: number, to: number): number {
  let best = from;
  let bestBits = bits[from] as number;
  for (let index = from + 1; bestBits <= ONE_HALF && index < to; index++) {
    const value = bits[index] as number;
    if (value > bestBits) {
      bestBits = value;
      best = index;
    }
  }
  return best;
}
