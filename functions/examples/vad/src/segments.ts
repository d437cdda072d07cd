/** A stretch of speech, from the beginning of the recording. */
export interface Segment {
  readonly startSeconds: number;
  readonly endSeconds: number;
}

/** Speech begins at this probability, and ends below the lower one: Silero's defaults, as are the times that follow. */
const BEGIN = 0.5;
const END = 0.35;
/** Shorter silence does not end speech, in seconds. */
const SILENCE_SECONDS_MIN = 0.1;
/** Shorter speech is noise, in seconds. */
const SPEECH_SECONDS_MIN = 0.25;
/** Added before and after, in seconds, so that no sound is cut; neighbours then may touch, and are one. */
const PADDING_SECONDS = 0.03;

/**
 * Stretches of speech.
 *
 * @param probabilities of speech, one for each `chunkSeconds`
 * @param seconds length of the recording, which no segment passes
 * @returns segments in order, which do not touch
 */
export function findSegments(probabilities: Float32Array, chunkSeconds: number, seconds: number): Segment[] {
  const segments: Segment[] = [];
  for (const [from, to] of stretches(probabilities, Math.ceil(SILENCE_SECONDS_MIN / chunkSeconds))) {
    if ((to - from) * chunkSeconds < SPEECH_SECONDS_MIN) continue;
    const startSeconds = Math.max(from * chunkSeconds - PADDING_SECONDS, 0);
    const endSeconds = Math.min(to * chunkSeconds + PADDING_SECONDS, seconds);
    const last = segments.at(-1);
    if (last && startSeconds <= last.endSeconds) segments[segments.length - 1] = { ...last, endSeconds };
    else segments.push({ startSeconds, endSeconds });
  }
  return segments;
}

/** Chunks of speech as [first, one after the last]; a gap of fewer than `silenceMin` chunks belongs to the speech around it. */
function stretches(probabilities: Float32Array, silenceMin: number): [from: number, to: number][] {
  const found: [number, number][] = [];
  let from = -1;
  let silentFrom = -1;
  probabilities.forEach((probability, index) => {
    if (probability >= BEGIN) {
      if (from < 0) from = index;
      silentFrom = -1;
    } else if (from >= 0 && probability < END) {
      if (silentFrom < 0) silentFrom = index;
      if (index + 1 - silentFrom >= silenceMin) {
        found.push([from, silentFrom]);
        from = silentFrom = -1;
      }
    }
  });
  if (from >= 0) found.push([from, silentFrom < 0 ? probabilities.length : silentFrom]);
  return found;
}
