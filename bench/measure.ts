/** Figures of one side of a comparison. Times in ms. */
export interface Figures {
  readonly p50: number;
  readonly p99: number;
  readonly perSecond: number;
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}
export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Runs `call` `count` times, `concurrency` at a time, with a pause of `paceMs` after each; each must succeed. */
export async function load(
  call: () => Promise<void>,
  count: number,
  concurrency: number,
  paceMs = 0,
): Promise<Figures> {
  const times: number[] = [];
  let left = count;
  const start = performance.now();
  const lane = async (): Promise<void> => {
    while (left-- > 0) {
      const began = performance.now();
      await call();
      times.push(performance.now() - began);
      if (paceMs > 0) await new Promise((resolve) => setTimeout(resolve, paceMs));
    }
  };
  await Promise.all(Array.from({ length: concurrency }, lane));
  return { p50: median(times), p99: quantile(times, 0.99), perSecond: (count * 1000) / (performance.now() - start) };
}

/** The same load on both sides, alternating, so that a machine that slows down slows both. One figure pair per round. */
export async function alternate(
  a: () => Promise<void>,
  b: () => Promise<void>,
  options: {
    readonly rounds: number;
    readonly count: number;
    readonly concurrency: number;
    readonly paceMs?: number;
    /** Calls on each side that are not counted; a service runs for days, not for sixty calls. */
    readonly warmUp: number;
  },
): Promise<{ readonly a: Figures[]; readonly b: Figures[] }> {
  const result = { a: [] as Figures[], b: [] as Figures[] };
  await load(a, options.warmUp, options.concurrency);
  await load(b, options.warmUp, options.concurrency);
  for (let round = 0; round < options.rounds; round++) {
    result.a.push(await load(a, options.count, options.concurrency, options.paceMs));
    result.b.push(await load(b, options.count, options.concurrency, options.paceMs));
  }
  return result;
}
