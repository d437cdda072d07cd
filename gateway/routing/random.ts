/** A uniform number in [0, 1). Fast and not secret: it spreads load, and nobody gains by guessing it. */
export type Random = () => number;

/** Sfc32 (PractRand), from a seed of 16 bytes. */
export function seededRandom(seed: Uint8Array): Random {
  const view = new DataView(seed.buffer, seed.byteOffset, 16);
  let [a, b, c, counter] = [0, 4, 8, 12].map((at) => view.getInt32(at)) as [number, number, number, number];
  const next = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 12; i++) next(); // mixes the seed
  return next;
}
