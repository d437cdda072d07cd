import { BoundedMap } from '../verifier/bounded-map.ts';

/** Something fetched, and how long it is good for, in ms since the epoch. */
export interface Renewable<T> {
  readonly value: T;
  /** Asked for again after this time. */
  readonly freshUntilMs: number;
  /** No longer given out after this time. */
  readonly usableUntilMs: number;
}

/**
 * Keeps what was fetched, by key; the least recently used goes first. What is asked for at once is fetched once, and what should be
 * renewed and cannot be is given out for as long as it is usable.
 */
export function renewingCache<T>(
  itemsMax: number,
  now: () => Date,
): (key: string, load: () => Promise<Renewable<T>>) => Promise<T> {
  const kept = new BoundedMap<string, Renewable<T>>(itemsMax);
  const loading = new Map<string, Promise<Renewable<T>>>();

  async function renew(key: string, load: () => Promise<Renewable<T>>): Promise<Renewable<T>> {
    const loaded = await load();
    kept.set(key, loaded);
    return loaded;
  }

  return async (key, load) => {
    const nowMs = now().getTime();
    const known = kept.get(key);
    if (known !== undefined && nowMs < known.freshUntilMs) return known.value;
    const loaded = loading.get(key) ?? renew(key, load).finally(() => loading.delete(key));
    loading.set(key, loaded);
    try {
      return (await loaded).value;
    } catch (error) {
      if (known !== undefined && nowMs < known.usableUntilMs) return known.value;
      throw error;
    }
  };
}
