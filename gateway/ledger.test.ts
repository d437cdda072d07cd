import { expect, test } from 'vitest';
import { CfnError, signReceipt, toBase64url } from '../proto/index.ts';
import { ledger } from './ledger.ts';
import { LEDGER_QUEUE_MAX } from './limits.ts';
import type { AdmittedWorker } from './registry.ts';
import { receiptOf } from './store/contract/store.contract.ts';
import type { LedgerEntry } from './store/index.ts';

const keys = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
const publicKey = toBase64url(new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey)));
const worker = { workerId: 'a'.repeat(64), tee: 'simulated', keys: { receipt: { publicKey } } } as AdmittedWorker;
const signed = (sequence: number): Promise<string> =>
  signReceipt(
    receiptOf(sequence.toString(16).padStart(32, '0'), { sequence }),
    async (data) => new Uint8Array(await crypto.subtle.sign('Ed25519', keys.privateKey, data)),
  );

test('while the store is away, what a worker tells again and again takes no room, and is written once', async () => {
  let away = true;
  const written: LedgerEntry[] = [];
  const acknowledged: number[] = [];
  const it = ledger({
    store: {
      addReceipts: async (entries) => {
        if (away) throw new CfnError('CFN_STORE_FAILED', 'away');
        written.push(...entries);
        return entries.length;
      },
      receipt: async () => undefined,
    },
    now: () => new Date(),
    log: () => undefined,
    acknowledge: (_, sequences) => void acknowledged.push(...sequences),
    onWritten: () => undefined,
    onOutcome: () => undefined,
  });
  const receipts = await Promise.all([0, 1, 2].map(signed));
  for (let round = 0; round < 20; round++) {
    for (const jws of receipts) it.collect(jws, worker);
    await it.flush();
  }
  for (let i = 0; i < LEDGER_QUEUE_MAX; i++) for (const jws of receipts) it.collect(jws, worker);
  it.checkWritable();
  away = false;
  await it.flush();
  expect(written.map(({ jws }) => jws).toSorted()).toEqual(receipts.toSorted());
  expect(acknowledged.toSorted((a, b) => a - b)).toEqual([0, 1, 2]);
});
