import { toCfnError } from '../../proto/index.ts';
import { EVIDENCE_LATER_MAX } from '../limits.ts';
import type { Store } from '../store/index.ts';

export interface EvidenceLater extends Pick<Store, 'addEvidence' | 'evidence'> {
  /** Writes what waits. */
  flush(): Promise<void>;
}

/**
 * Evidence that waits in memory while the shared store is away: a worker's lease is renewed by its evidence, not by where that is kept.
 * When too much waits, renewals fail.
 */
export function evidenceLater(store: Pick<Store, 'addEvidence' | 'evidence'>): EvidenceLater {
  const waiting = new Map<string, string>();
  return {
    async addEvidence(digest, json) {
      try {
        await store.addEvidence(digest, json);
      } catch (cause) {
        if (toCfnError(cause).code !== 'CFN_STORE_FAILED' || waiting.size >= EVIDENCE_LATER_MAX) throw cause;
        waiting.set(digest, json);
      }
    },
    evidence: async (digest) => waiting.get(digest) ?? store.evidence(digest),
    async flush() {
      for (const [digest, json] of waiting) {
        await store.addEvidence(digest, json);
        waiting.delete(digest);
      }
    },
  };
}
