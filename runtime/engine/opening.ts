import { createHash } from 'node:crypto';
import { segmentCipher, type SharedFile } from './segment-cipher.ts';

/** A package that is being opened, shared by all threads that work at it. Segments are counted through, file after file. */
export interface Opening {
  /** 32 bytes, shared: who opened the package overwrites them for all. */
  readonly dataKey: Uint8Array<SharedArrayBuffer>;
  readonly files: readonly SharedFile[];
  /** {@link ARRIVED}: segments whose ciphertext is there; {@link CLAIMED}: segments that some thread has taken on. */
  readonly counts: Int32Array<SharedArrayBuffer>;
  /** Of each segment: {@link OPENED} once it is; {@link STOPPED} when nobody will open it any more. */
  readonly states: Int32Array<SharedArrayBuffer>;
}
const ARRIVED = 0;
const CLAIMED = 1;
const OPENED = 1;
const STOPPED = 2;
const ALL = 0x7fff_ffff;

export function newOpening(dataKey: Uint8Array<SharedArrayBuffer>, files: readonly SharedFile[]): Opening {
  const segments = files.reduce((sum, file) => sum + file.segments, 0);
  return {
    dataKey,
    files,
    counts: new Int32Array(new SharedArrayBuffer(8)),
    states: new Int32Array(new SharedArrayBuffer(4 * segments)),
  };
}

/** Says that `segments` have their ciphertext in place, from the first on. */
export function arrived({ counts }: Opening, segments: number): void {
  Atomics.store(counts, ARRIVED, segments);
  Atomics.notify(counts, ARRIVED);
}

/** Lets threads that wait go; those at work stop at the next segment. */
export function stop({ counts, states }: Opening): void {
  Atomics.store(counts, CLAIMED, ALL >> 1); // room to count on
  for (let segment = 0; segment < states.length; segment++) {
    if (Atomics.compareExchange(states, segment, 0, STOPPED) === 0) Atomics.notify(states, segment);
  }
  Atomics.store(counts, ARRIVED, ALL);
  Atomics.notify(counts, ARRIVED);
}

/**
 * Opens segments as they arrive, each that no other thread has claimed, until none is left or all stop.
 *
 * @returns the first that is not authentic in its place, or undefined
 */
export function openSegments(opening: Opening): { readonly file: number; readonly segment: number } | undefined {
  const { dataKey, files, counts, states } = opening;
  using cipher = segmentCipher(dataKey);
  for (;;) {
    const claimed = Atomics.add(counts, CLAIMED, 1);
    if (claimed >= states.length) return undefined;
    for (let there = Atomics.load(counts, ARRIVED); there <= claimed; there = Atomics.load(counts, ARRIVED))
      Atomics.wait(counts, ARRIVED, there);
    if (Atomics.load(states, claimed) === STOPPED) return undefined;
    const place = placeOf(files, claimed);
    const file = files[place.file];
    if (file === undefined || !cipher.open(file, place.segment)) return place;
    Atomics.store(states, claimed, OPENED);
    Atomics.notify(states, claimed);
  }
}

/** Digests the files' plaintext in order, right behind the threads that open it. @returns undefined when they stop */
export function digestFiles({ files, states }: Opening): readonly string[] | undefined {
  let counted = 0;
  const digests: string[] = [];
  for (const { segments, segmentBytes, bytes } of files) {
    const hash = createHash('sha256');
    for (let segment = 0; segment < segments; segment++) {
      Atomics.wait(states, counted, 0);
      if (Atomics.load(states, counted++) !== OPENED) return undefined;
      hash.update(bytes.subarray(segment * segmentBytes, (segment + 1) * segmentBytes));
    }
    digests.push(hash.digest('hex'));
  }
  return digests;
}

function placeOf(files: readonly SharedFile[], counted: number): { file: number; segment: number } {
  let segment = counted;
  for (const [file, { segments }] of files.entries()) {
    if (segment < segments) return { file, segment };
    segment -= segments;
  }
  return { file: -1, segment };
}
