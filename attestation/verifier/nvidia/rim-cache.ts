import type { Rim } from '../../evidence/rim.ts';
import { BoundedMap } from '../bounded-map.ts';

/** RIMs kept; a fleet runs few drivers. Each takes about 100 kB. */
const RIMS_MAX = 64;

/** RIMs whose chain and signature verified, by digest. Dates and revocation are looked at each time. */
export type RimCache = Pick<BoundedMap<string, Rim>, 'get' | 'set'>;

export function createRimCache(rimsMax: number = RIMS_MAX): RimCache {
  return new BoundedMap(rimsMax);
}
