import type { AuditEntry, ErrorCode } from '../proto/index.ts';
import { REFUSALS_AT_ONCE, REFUSALS_PER_MINUTE } from './limits.ts';
import { openRates } from './rates.ts';
import type { AuditStore } from './store.ts';

/** Notes refusals in audit logs: one by one as long as there are not many, and then how many of each code. */
export interface Refusals {
  /** @param owner whose log; `''`: the KMS's own */
  note(owner: string, code: ErrorCode, what: Omit<AuditEntry, 'at' | 'decision' | 'code' | 'count'>): Promise<void>;
  /** Notes what was only counted until now; one call after the other. */
  flush(): Promise<void>;
}

/** @param ownersMax whose refusals are told apart */
export function openRefusals(store: AuditStore, now: () => Date, ownersMax: number): Refusals {
  const rates = openRates(now, ownersMax);
  /** Owner → code → how many were not noted. */
  const counted = new Map<string, Map<ErrorCode, number>>();
  let flushed: Promise<void> = Promise.resolve();
  const at = (): string => now().toISOString();

  async function flushOwner(owner: string): Promise<void> {
    const codes = counted.get(owner);
    counted.delete(owner);
    for (const [code, count] of codes ?? [])
      await store.addAudit(owner, { at: at(), decision: 'refused', code, count });
  }
  /** Those there are now: under a flood there are new ones with every entry that is written. */
  async function flushAll(): Promise<void> {
    const owners = [...counted.keys()];
    for (const owner of owners) await flushOwner(owner);
  }
  return {
    async note(owner, code, what) {
      if (rates.take(owner, REFUSALS_PER_MINUTE, REFUSALS_AT_ONCE)) {
        await store.addAudit(owner, { at: at(), decision: 'refused', code, ...what });
        return;
      }
      const codes = counted.get(owner) ?? new Map<ErrorCode, number>();
      codes.set(code, (codes.get(code) ?? 0) + 1);
      counted.set(owner, codes);
    },
    flush() {
      const flushing = flushed.then(flushAll);
      flushed = flushing.catch(() => undefined);
      return flushing;
    },
  };
}
