import { capacityOf, fraction, loadOf, type Member, type VersionView } from './fleet.ts';
import type { Random } from './random.ts';

/** A worker above this share of its capacity is busy: where all that have a version are, one more gets it. */
export const BUSY_FRACTION = 0.5;
/** Workers that are looked at where two drawn at random were no use. */
const SCAN_MAX = 64;
/** Workers that take a version's requests, however few those are: one may end at any time. */
const SERVING_MIN = 2;

export const hasRoom = (member: Member): boolean => loadOf(member) < capacityOf(member);

/** The less loaded of two drawn at random, among the first `count` of a list that fit (Mitzenmacher's power of two choices). */
export function leastOfTwo(
  list: readonly Member[],
  count: number,
  fits: (member: Member) => boolean,
  random: Random,
): Member | undefined {
  const n = Math.min(count, list.length);
  if (n === 0) return undefined;
  const at = Math.floor(random() * n);
  const one = list[at];
  const other = n > 1 ? list[(at + 1 + Math.floor(random() * (n - 1))) % n] : undefined;
  const [a, b] = [
    one !== undefined && fits(one) ? one : undefined,
    other !== undefined && fits(other) ? other : undefined,
  ];
  if (a !== undefined && b !== undefined) return fraction(b) < fraction(a) ? b : a;
  if (a !== undefined || b !== undefined) return a ?? b;
  for (let i = 1; i <= Math.min(n, SCAN_MAX); i++) {
    const next = list[(at + i) % n];
    if (next !== undefined && fits(next)) return next;
  }
  return undefined;
}

/**
 * How many of a version's workers, from the first on, its requests need so that none is busy. The others get none while that lasts, and
 * the version leaves them when they are idle.
 */
export function servingCount({ members, inflight }: VersionView): number {
  const [first] = members;
  if (first === undefined) return 0;
  return Math.max(SERVING_MIN, Math.ceil(inflight / (capacityOf(first) * BUSY_FRACTION)) + 1);
}
