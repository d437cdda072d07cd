import { CfnError } from '../../proto/index.ts';
import { fetchBytes, VendorRefusal, type HttpOptions } from './http.ts';
import { renewingCache, type Renewable } from './renewing-cache.ts';

/** Answers kept: mostly VCEK certificates of 1.4 kB, one per chip and TCB. */
const ANSWERS_MAX = 2048;
/** Largest answer, in bytes: chains have 5 kB, CRLs one. */
const ANSWER_BYTES_MAX = 64 * 1024;
/** How long the service is left alone when it asks for that without a time, in ms; and the longest that it is left alone. */
const PAUSE_MS = { default: 10_000, max: 60 * 60_000 };

export interface KdsCacheOptions extends HttpOptions {
  readonly now: () => Date;
}

/**
 * Gives the answer under a URL, or what is kept of it. `read` verifies: what it throws at is not kept. `admit` throws where the service
 * is not to be asked.
 */
export type KdsCache<T> = (
  url: string,
  read: (bytes: Uint8Array) => Promise<Renewable<T>>,
  admit?: () => void,
) => Promise<T>;

/**
 * Keeps answers of AMD's key distribution service by URL, which names all that they depend on. When the service asks to wait (429 or
 * 503), nothing is asked until then, whatever the URL.
 *
 * @returns a function that throws CfnError `CFN_VENDOR_UNREACHABLE`, or what `read` throws.
 */
export function kdsCache<T>(options: KdsCacheOptions): KdsCache<T> {
  const answers = renewingCache<T>(ANSWERS_MAX, options.now);
  let pausedUntilMs = Number.NEGATIVE_INFINITY;

  async function ask(url: string, admit: () => void): Promise<Uint8Array> {
    const nowMs = options.now().getTime();
    if (nowMs < pausedUntilMs)
      throw new CfnError('CFN_VENDOR_UNREACHABLE', `AMD's KDS asks to wait ${pausedUntilMs - nowMs} ms longer`);
    admit();
    try {
      return await fetchBytes({ what: "AMD's KDS", url, bytesMax: ANSWER_BYTES_MAX }, options);
    } catch (error) {
      if (error instanceof VendorRefusal && (error.answered === 429 || error.answered === 503))
        pausedUntilMs = nowMs + pauseMs(error.retryAfter, nowMs);
      throw error;
    }
  }

  return (url, read, admit = () => undefined) => answers(url, async () => read(await ask(url, admit)));
}

/** Retry-After is in seconds, or a date (RFC 9110 §10.2.3). */
function pauseMs(retryAfter: string | undefined, nowMs: number): number {
  if (retryAfter === undefined) return PAUSE_MS.default;
  const asked = /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : Date.parse(retryAfter) - nowMs;
  return Number.isNaN(asked) ? PAUSE_MS.default : Math.min(Math.max(asked, 0), PAUSE_MS.max);
}
