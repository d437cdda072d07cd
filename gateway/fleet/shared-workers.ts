import { toCfnError } from '../../proto/index.ts';
import type { Admission } from '../admission.ts';
import type { Log } from '../log.ts';
import type { Store } from '../store/index.ts';

const AGAIN_MS = 1_000;

export interface SharedWorkers {
  /** Watches the addresses that the store names now, and no longer those that it named before. */
  follow(): void;
  stop(): void;
}

/**
 * Addresses that an operator named at any gateway. Each is an address to challenge and nothing more: who stands there is appraised by this
 * gateway itself. A store that does not answer names nobody and removes nobody.
 *
 * @param own addresses that this gateway was started with; they stay
 */
export function sharedWorkers(deps: {
  readonly admission: Pick<Admission, 'keep' | 'forget'>;
  readonly store: Pick<Store, 'workerAddresses'>;
  readonly own: readonly string[];
  readonly log: Log;
}): SharedWorkers {
  const own = new Set(deps.own);
  let named = new Set<string>();
  let wanted = 0;
  let working = false;
  let timer: NodeJS.Timeout | undefined;

  async function work(): Promise<void> {
    const asked = wanted;
    try {
      const now = new Set(await deps.store.workerAddresses());
      for (const address of now) if (!named.has(address)) deps.admission.keep(address);
      for (const address of named) if (!now.has(address) && !own.has(address)) deps.admission.forget(address);
      named = now;
      if (wanted !== asked) return await work();
      working = false;
    } catch (cause) {
      working = false;
      deps.log('fleet.workers-unread', { code: toCfnError(cause).code });
      timer = setTimeout(follow, AGAIN_MS);
      timer.unref();
    }
  }
  function follow(): void {
    wanted++;
    if (working) return;
    working = true;
    void work();
  }
  return { follow, stop: () => clearTimeout(timer) };
}
