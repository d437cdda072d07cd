import { CfnError } from '../../proto/index.ts';
import { BoundedMap } from '../verifier/bounded-map.ts';

/** Something fetched, and how long it is good for, in ms since the epoch. */
export interface Renewable<T> {
  readonly value: T;
  /** Asked for again after this time. */
  readonly freshUntilMs: number;
  /** No longer given out after this time. */
  readonly usableUntilMs: number;
}

/** How long a renewal that failed is not tried again while what is kept still counts. */
const RETRY_MS = 60_000;

/**
 * Keeps what was fetched, by key; the least recently used goes first. What is asked for at once is fetched once. What should be
 * renewed and cannot be is given out for as long as it is usable, and not a moment longer.
 */
export function renewingCache<T>(
  itemsMax: number,
  now: () => Date,
): (key: string, load: () => Promise<Renewable<T>>) => Promise<T> {
  const kept = new BoundedMap<string, Renewable<T>>(itemsMax);
  const loading = new Map<string, Promise<Renewable<T>>>();

  async function renew(key: string, load: () => Promise<Renewable<T>>): Promise<Renewable<T>> {
    const loaded = await load().catch(asVendorFault);
    kept.set(key, loaded);
    return loaded;
  }

  return async (key, load) => {
    const known = kept.get(key);
    if (known !== undefined && now().getTime() < Math.min(known.freshUntilMs, known.usableUntilMs)) return known.value;
    const loaded = loading.get(key) ?? renew(key, load).finally(() => loading.delete(key));
    loading.set(key, loaded);
    try {
      return (await loaded).value;
    } catch (error) {
      const nowMs = now().getTime();
      if (known === undefined || nowMs >= known.usableUntilMs) throw error;
      kept.set(key, { ...known, freshUntilMs: nowMs + RETRY_MS });
      return known.value;
    }
  };
}

/** What cannot be read is the service's fault, not that of the evidence it was asked for. */
function asVendorFault(cause: unknown): never {
  if (!(cause instanceof CfnError) || cause.code !== 'CFN_EVIDENCE_MALFORMED') throw cause;
  throw new CfnError(
    'CFN_VENDOR_UNREACHABLE',
    `a vendor's service answers with what cannot be read: ${cause.message}`,
    {
      cause,
    },
  );
}
