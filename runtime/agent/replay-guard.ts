import { createHash } from 'node:crypto';
import { CfnError, REQUEST_SKEW_MS_MAX } from '../../proto/index.ts';

/** Keys remembered at most; at the limit new requests are refused, because forgetting one would let it be replayed. */
const KEYS_MAX = 200_000;

/**
 * Refuses a request that was seen before, or is too old for that to be known (protocols.md §10).
 * An encapsulated key is remembered for twice the allowed skew: as long as its Date can be accepted.
 */
export function replayGuard(now: () => Date): (encapsulatedKey: Uint8Array, date: Date) => void {
  const seen = new Map<string, number>();
  return (encapsulatedKey, date) => {
    const time = now().getTime();
    if (!(Math.abs(time - date.getTime()) <= REQUEST_SKEW_MS_MAX)) {
      throw new CfnError(
        'CFN_REQUEST_EXPIRED',
        `the request's Date differs from the worker's clock by more than ${REQUEST_SKEW_MS_MAX} ms`,
      );
    }
    for (const [key, forgetAt] of seen) {
      if (forgetAt > time) break; // in order of insertion, so the rest is younger
      seen.delete(key);
    }
    const key = createHash('sha256').update(encapsulatedKey).digest('base64'); // a hybrid one has a kilobyte
    if (seen.has(key)) throw new CfnError('CFN_REQUEST_REPLAYED', 'this encapsulated key was used before');
    if (seen.size >= KEYS_MAX) throw new CfnError('CFN_BUSY', 'the replay memory is full');
    seen.set(key, time + 2 * REQUEST_SKEW_MS_MAX);
  };
}
