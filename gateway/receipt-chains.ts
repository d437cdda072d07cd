import { createHash } from 'node:crypto';
import { decodeJwt } from 'jose';
import type { Receipt } from '../proto/index.ts';
import { RECEIPT_GAP_MS } from './limits.ts';
import type { Log } from './log.ts';
import type { LedgerEntry, Store } from './store/index.ts';

/** What was read of one worker's chain. */
interface Chain {
  /** The sequence that comes next. */
  next: number;
  /** Digest of the receipt before it; `undefined` after a gap. */
  previous: string | undefined;
  /** Since when something after `next` is there, and `next` is not. */
  holeSinceMs: number | undefined;
  look: NodeJS.Timeout | undefined;
}

const PAGE = 500;
const CHAINS_MAX = 10_000;

export interface ReceiptChains {
  /** These are durable now. */
  added(entries: readonly LedgerEntry[]): void;
  stop(): void;
}

/**
 * Reads the chain of each worker as it grows: every receipt has a number and names the one before it. What is missing for
 * {@link RECEIPT_GAP_MS}, although later ones came, is a gap: the worker ended with it, or somebody took it away. A receipt that names
 * another predecessor is a broken link. Both are counted, and told in the log; nothing is refused for them.
 */
export function receiptChains(deps: {
  readonly store: Pick<Store, 'receiptsOfWorker'>;
  readonly log: Log;
  readonly monotonicMs: () => number;
  readonly onGap: (receipts: number) => void;
}): ReceiptChains {
  const chains = new Map<string, Chain>();
  const chainOf = (worker: string): Chain => {
    const known = chains.get(worker);
    if (known !== undefined) return known;
    if (chains.size >= CHAINS_MAX) chains.delete(chains.keys().next().value ?? '');
    const made: Chain = { next: 0, previous: '', holeSinceMs: undefined, look: undefined };
    chains.set(worker, made);
    return made;
  };
  function take(chain: Chain, worker: string, jws: string, receipt: Pick<Receipt, 'sequence' | 'previous'>): void {
    if (chain.previous !== undefined && receipt.previous !== chain.previous) {
      deps.onGap(1);
      deps.log('receipt.chain-broken', { worker, sequence: receipt.sequence });
    }
    chain.next = receipt.sequence + 1;
    chain.previous = createHash('sha256').update(jws).digest('hex');
    chain.holeSinceMs = undefined;
  }
  function lookSoon(worker: string, chain: Chain, afterMs: number): void {
    if (chain.look !== undefined) return;
    chain.look = setTimeout(() => {
      chain.look = undefined;
      look(worker, chain).catch(() => lookSoon(worker, chain, RECEIPT_GAP_MS)); // the store does not answer now
    }, afterMs);
    chain.look.unref();
  }
  /** Goes on with what the store has: of this gateway, and of others. */
  async function look(worker: string, chain: Chain): Promise<void> {
    for (;;) {
      const page = await deps.store.receiptsOfWorker(worker, chain.next, PAGE);
      for (const jws of page) {
        const receipt = decodeJwt(jws) as unknown as Receipt; // verified before it was kept
        if (receipt.sequence < chain.next) continue;
        if (receipt.sequence > chain.next) {
          const missing = receipt.sequence - chain.next;
          const nowMs = deps.monotonicMs();
          chain.holeSinceMs ??= nowMs;
          if (nowMs - chain.holeSinceMs < RECEIPT_GAP_MS) return lookSoon(worker, chain, RECEIPT_GAP_MS / 4);
          deps.onGap(missing);
          deps.log('receipt.gap', { worker, sequence: chain.next, missing });
          chain.previous = undefined;
        }
        take(chain, worker, jws, receipt);
      }
      if (page.length < PAGE) return;
    }
  }
  return {
    added(entries) {
      for (const { jws, receipt } of entries.toSorted((a, b) => a.receipt.sequence - b.receipt.sequence)) {
        const chain = chainOf(receipt.worker);
        if (receipt.sequence === chain.next) take(chain, receipt.worker, jws, receipt);
        else if (receipt.sequence > chain.next) lookSoon(receipt.worker, chain, 100);
      }
    },
    stop() {
      for (const { look: timer } of chains.values()) clearTimeout(timer);
    },
  };
}
