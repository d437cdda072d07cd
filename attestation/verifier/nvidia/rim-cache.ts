import type { Rim } from '../../evidence/rim.ts';

/** RIMs kept; a fleet runs few drivers. Each takes about 100 kB. */
const RIMS_MAX = 64;

/** Remembers RIMs whose chain and signature verified, by digest. Dates and revocation are looked at each time. */
export interface RimCache {
  get(key: string): Rim | undefined;
  set(key: string, rim: Rim): void;
}

/** A bounded cache; the least recently used goes first. */
export function createRimCache(rimsMax: number = RIMS_MAX): RimCache {
  const rims = new Map<string, Rim>();
  const touch = (key: string, rim: Rim): void => {
    rims.delete(key);
    rims.set(key, rim);
    const [oldest] = rims.keys();
    if (rims.size > rimsMax && oldest !== undefined) rims.delete(oldest);
  };
  return {
    get(key) {
      const rim = rims.get(key);
      if (rim !== undefined) touch(key, rim);
      return rim;
    },
    set: touch,
  };
}
