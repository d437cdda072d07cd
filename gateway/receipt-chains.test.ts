import { createHash } from 'node:crypto';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { toBase64url, utf8 } from '../proto/index.ts';
import { receiptChains, type ReceiptChains } from './receipt-chains.ts';
import { receiptOf } from './store/contract/store.contract.ts';
import type { LedgerEntry } from './store/index.ts';

let held: LedgerEntry[];
let gaps: number[];
let logs: string[];
let chains: ReceiptChains;
beforeEach(() => {
  vi.useFakeTimers();
  [held, gaps, logs] = [[], [], []];
  chains = receiptChains({
    store: {
      receiptsOfWorker: async (_worker, from, limit) =>
        held
          .filter(({ receipt }) => receipt.sequence >= from)
          .toSorted((a, b) => a.receipt.sequence - b.receipt.sequence)
          .slice(0, limit)
          .map(({ jws }) => jws),
    },
    log: (event) => void logs.push(event),
    monotonicMs: () => Date.now(),
    onGap: (missing) => void gaps.push(missing),
  });
});
afterEach(() => {
  chains.stop();
  vi.useRealTimers();
});

/** As a worker chains them; signatures do not matter here. */
function chain(length: number): LedgerEntry[] {
  const entries: LedgerEntry[] = [];
  for (let sequence = 0; sequence < length; sequence++) {
    const before = entries.at(-1)?.jws;
    const previous = before === undefined ? '' : createHash('sha256').update(before).digest('hex');
    const receipt = receiptOf(sequence.toString(16).padStart(32, '0'), { sequence, previous });
    entries.push({ jws: `e30.${toBase64url(utf8(JSON.stringify(receipt)))}.sig`, receipt });
  }
  return entries;
}
function add(...entries: LedgerEntry[]): void {
  held.push(...entries);
  chains.added(entries);
}

test('a whole chain, in any order and from several gateways, has no gap', async () => {
  const [a, b, c, d, e] = chain(5) as [LedgerEntry, LedgerEntry, LedgerEntry, LedgerEntry, LedgerEntry];
  add(a);
  held.push(b); // another gateway wrote it
  add(d, c);
  await vi.advanceTimersByTimeAsync(1_000);
  add(e);
  await vi.advanceTimersByTimeAsync(300_000);
  expect([gaps, logs]).toEqual([[], []]);
});

test('INV-42 what stays away is a gap, told and counted once', async () => {
  const entries = chain(6);
  add(...entries.slice(0, 2));
  add(...entries.slice(4));
  await vi.advanceTimersByTimeAsync(30_000);
  expect(gaps).toEqual([]); // it may still come
  await vi.advanceTimersByTimeAsync(300_000);
  expect([gaps, logs]).toEqual([[2], ['receipt.gap']]);
});

test('INV-42 a receipt that names another predecessor is told and counted', async () => {
  const entries = chain(3);
  const [, forged] = chain(2).map(({ receipt }) => ({ receipt, jws: `e30.${toBase64url(utf8('{}'))}.other` }));
  add(...entries.slice(0, 1), ...(forged === undefined ? [] : [forged]), ...entries.slice(2));
  await vi.advanceTimersByTimeAsync(300_000);
  expect([gaps, logs]).toEqual([[1], ['receipt.chain-broken']]);
});
