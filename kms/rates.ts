/** Counts what may happen so often a minute, each name apart. */
export interface Rates {
  /** @returns false when `name` has used up what it may */
  take(name: string, perMinute: number, atOnce?: number): boolean;
}

/** Token buckets, full at first. @param namesMax then the one that was asked for longest ago is forgotten, and so full again */
export function openRates(now: () => Date, namesMax: number): Rates {
  const buckets = new Map<string, { left: number; at: number }>();
  return {
    take(name, perMinute, atOnce = perMinute) {
      const at = now().getTime();
      const { left, at: before } = buckets.get(name) ?? { left: atOnce, at };
      const filled = Math.min(atOnce, left + (Math.max(0, at - before) * perMinute) / 60_000);
      const allowed = filled >= 1;
      buckets.delete(name); // so that the order is that of use
      buckets.set(name, { left: allowed ? filled - 1 : filled, at });
      for (const oldest of buckets.keys()) {
        if (buckets.size <= namesMax) break;
        buckets.delete(oldest);
      }
      return allowed;
    },
  };
}
