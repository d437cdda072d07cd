import { CfnError } from '../../proto/index.ts';
import { BoundedMap } from '../verifier/bounded-map.ts';
import { fetchBytes, VendorRefusal, type HttpOptions } from './http.ts';

/** Answers kept: mostly VCEK certificates of 1.4 kB, one per chip and TCB. */
const ANSWERS_MAX = 2048;
/** Largest answer, in bytes: chains have 5 kB, CRLs one. */
const ANSWER_BYTES_MAX = 64 * 1024;
/** How long the service is left alone when it asks for that without a time, in ms; and the longest that it is left alone. */
const PAUSE_MS = { default: 10_000, max: 60 * 60_000 };

export interface KdsCacheOptions extends HttpOptions {
  readonly now: () => Date;
}

/** What was read out of an answer. */
export interface KdsAnswer {
  /** DER of each object. */
  readonly objects: readonly Uint8Array[];
  /** Asked for again after this time, and no longer given out after that, in ms since the epoch. */
  readonly freshUntilMs: number;
  readonly usableUntilMs: number;
}

export type KdsCache = (url: string, read: (bytes: Uint8Array) => KdsAnswer) => Promise<readonly Uint8Array[]>;

/**
 * Keeps answers of AMD's key distribution service by URL, which names all that they depend on. Questions that are asked at once are
 * put once. When the service asks to wait (429 or 503), nothing is asked until then, whatever the URL. An answer that should be
 * renewed and cannot be is given out for as long as it is usable.
 *
 * @returns a function that throws CfnError `CFN_VENDOR_UNREACHABLE`, or what `read` throws.
 */
export function kdsCache(options: KdsCacheOptions): KdsCache {
  const kept = new BoundedMap<string, KdsAnswer>(ANSWERS_MAX);
  const asking = new Map<string, Promise<KdsAnswer>>();
  let pausedUntilMs = Number.NEGATIVE_INFINITY;

  async function ask(url: string, read: (bytes: Uint8Array) => KdsAnswer): Promise<KdsAnswer> {
    const nowMs = options.now().getTime();
    if (nowMs < pausedUntilMs)
      throw new CfnError('CFN_VENDOR_UNREACHABLE', `AMD's KDS asks to wait ${pausedUntilMs - nowMs} ms longer`);
    try {
      const answer = read(await fetchBytes({ what: "AMD's KDS", url, bytesMax: ANSWER_BYTES_MAX }, options));
      kept.set(url, answer);
      return answer;
    } catch (error) {
      if (error instanceof VendorRefusal && (error.answered === 429 || error.answered === 503))
        pausedUntilMs = nowMs + pauseMs(error.retryAfter, nowMs);
      throw error;
    }
  }

  return async (url, read) => {
    const nowMs = options.now().getTime();
    const known = kept.get(url);
    if (known !== undefined && nowMs < known.freshUntilMs) return known.objects;
    const asked = asking.get(url) ?? ask(url, read).finally(() => asking.delete(url));
    asking.set(url, asked);
    try {
      return (await asked).objects;
    } catch (error) {
      if (known !== undefined && nowMs < known.usableUntilMs) return known.objects;
      throw error;
    }
  };
}

/** Retry-After is in seconds, or a date (RFC 9110 §10.2.3). */
function pauseMs(retryAfter: string | undefined, nowMs: number): number {
  if (retryAfter === undefined) return PAUSE_MS.default;
  const asked = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - nowMs;
  return Number.isNaN(asked) ? PAUSE_MS.default : Math.min(Math.max(asked, 0), PAUSE_MS.max);
}
