import { createHash } from 'node:crypto';
import { CfnError, REQUEST_SKEW_MS_MAX } from '../../proto/index.ts';

/** Keys remembered at most; at the limit new requests are refused, because forgetting one would let it be replayed. */
const KEYS_MAX = 200_000;

/**
 * Refuses a request that was seen before, or is too old for that to be known (protocols.md §10).
 * An encapsulated key is remembered for twice the allowed skew: as long as its Date can be accepted, while the clock runs evenly. What
 * has an older Date than one that was forgotten is too old, too: so a clock that is set forward and back opens nothing.
 */
export function replayGuard(now: () => Date): (encapsulatedKey: Uint8Array, date: Date) => void {
  const seen = new Map<string, { readonly dateMs: number; readonly forgetAtMs: number }>();
  let forgottenMs = -Infinity;
  return (encapsulatedKey, date) => {
    const time = now().getTime();
    const dateMs = date.getTime();
    for (const [key, it] of seen) {
      if (it.forgetAtMs > time) break; // in order of insertion, so the rest is younger
      seen.delete(key);
      forgottenMs = Math.max(forgottenMs, it.dateMs);
    }
    if (!(Math.abs(time - dateMs) <= REQUEST_SKEW_MS_MAX) || dateMs <= forgottenMs) {
      throw new CfnError(
        'CFN_REQUEST_EXPIRED',
        `the request's Date differs from the worker's clock by more than ${REQUEST_SKEW_MS_MAX} ms, or that was set back`,
      );
    }
    const key = createHash('sha256').update(encapsulatedKey).digest('base64'); // a hybrid one has a kilobyte
    if (seen.has(key)) throw new CfnError('CFN_REQUEST_REPLAYED', 'this encapsulated key was used before');
    if (seen.size >= KEYS_MAX) throw new CfnError('CFN_BUSY', 'the replay memory is full');
    seen.set(key, { dateMs, forgetAtMs: time + 2 * REQUEST_SKEW_MS_MAX });
  };
}
