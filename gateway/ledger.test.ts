import { generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { beforeEach, describe, expect, test } from 'vitest';
import { CfnError, signReceipt, type Receipt } from '../proto/index.ts';
import { ledger, type Ledger, type ReceiptOutcome } from './ledger.ts';
import { LEDGER_QUEUE_MAX } from './limits.ts';
import type { AdmittedWorker } from './registry.ts';
import { receiptOf } from './store/contract/store.contract.ts';
import type { LedgerEntry } from './store/index.ts';

const worker = workerOf('a');
let written: string[];
let acknowledged: number[];
let outcomes: ReceiptOutcome[];
let durable: Promise<void> | undefined;
let attempts: number;
let receipts: Ledger;

beforeEach(() => {
  [written, acknowledged, outcomes, durable, attempts] = [[], [], [], undefined, 0];
  receipts = ledger({
    store: {
      addReceipts: async (entries) => {
        attempts++;
        await durable;
        written.push(...entries.map(({ receipt: { id } }) => id));
        return entries.length;
      },
      receipt: async (id) => (written.includes(id) ? 'kept' : undefined),
    },
    now: () => new Date('2026-11-23T12:00:00Z'),
    log: () => undefined,
    acknowledge: (_, sequences) => void acknowledged.push(...sequences),
    onWritten: () => undefined,
    onOutcome: (outcome) => void outcomes.push(outcome),
  });
});

function workerOf(digit: string): { admitted: AdmittedWorker; key: KeyObject } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const keys = { receipt: { publicKey: publicKey.export({ format: 'jwk' }).x } };
  const admitted = { workerId: digit.repeat(64), tee: 'simulated', keys } as unknown as AdmittedWorker;
  return { admitted, key: privateKey };
}
const ID = '7'.repeat(32);
const signed = (change: Partial<Receipt> = {}, { key } = worker): Promise<string> =>
  signReceipt(receiptOf(ID, change), (bytes) => sign(null, bytes, key));

describe('what a worker keeps is taken, and acknowledged when it is durable', () => {
  test('its own', async () => {
    receipts.collect(await signed({ sequence: Number.MAX_SAFE_INTEGER }), worker.admitted);
    await receipts.flush();
    expect([written, acknowledged, outcomes]).toEqual([[ID], [Number.MAX_SAFE_INTEGER], ['collected']]);
  });

  const usage = { cpuMs: 1, wallMs: 1, engineMs: 1, engineCalls: 1 };
  const digest = '2'.repeat(64);
  test.each<[string, () => Promise<string>]>([
    ['of another worker, which it passes on', () => signed({ worker: 'b'.repeat(64) }, workerOf('b'))],
    ['in the name of another worker', () => signed({ worker: 'b'.repeat(64) })],
    ['of another kind of TEE', () => signed({ tee: 'tdx' })],
    [
      'over more bytes than any request has: sums would no longer be exact',
      () => signed({ request: { digest, bytes: Number.MAX_SAFE_INTEGER } }),
    ],
    ['over more time than any request has', () => signed({ usage: { ...usage, engineMs: 1e12 } })],
    ['with more calls than any request has', () => signed({ usage: { ...usage, engineCalls: 2 ** 53 - 1 } })],
    [
      'longer than any receipt is',
      () => signed({ egress: [{ host: 'x'.repeat(70_000), calls: 1, bytesSent: 1, bytesReceived: 1 }] }),
    ],
    ['with a sequence that is no number of JavaScript', () => signed({ sequence: 2 ** 53 })],
    [
      'of a model without a name, which would be a row of its own',
      () => signed({ models: [{ binding: 'M', model: '=cmd()', digest, policy: digest }] }),
    ],
    ['that is no receipt', async () => 'x.y.z'],
  ])('not one %s', async (_, make) => {
    receipts.collect(await make(), worker.admitted);
    await receipts.flush();
    expect([written, acknowledged, outcomes]).toEqual([[], [], ['invalid']]);
  });
});

test('while the store is away, what a worker tells again and again takes no room, and is written once', async () => {
  let away = true;
  const kept: LedgerEntry[] = [];
  const it = ledger({
    store: {
      addReceipts: async (entries) => {
        if (away) throw new CfnError('CFN_STORE_FAILED', 'away');
        kept.push(...entries);
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
  const told = await Promise.all(
    [0, 1, 2].map((sequence) => signed({ id: sequence.toString(16).padStart(32, '0'), sequence })),
  );
  for (let round = 0; round < 20; round++) {
    for (const jws of told) it.collect(jws, worker.admitted);
    await it.flush();
  }
  for (let i = 0; i < LEDGER_QUEUE_MAX; i++) for (const jws of told) it.collect(jws, worker.admitted);
  it.checkWritable();
  away = false;
  await it.flush();
  expect(kept.map(({ jws }) => jws).toSorted()).toEqual(told.toSorted());
  expect(acknowledged.toSorted((a, b) => a - b)).toEqual([0, 1, 2]);
});

test('a receipt is not missed while the store writes it', async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  durable = promise;
  receipts.collect(await signed(), worker.admitted);
  const writing = receipts.flush();
  await new Promise(setImmediate);
  const asked = receipts.receipt(ID);
  await new Promise(setImmediate);
  resolve();
  expect(await asked).toBe('kept');
  await writing;
});

test('however many ask, a store that fails slowly is tried once more, not once for each', async () => {
  const { promise, reject } = Promise.withResolvers<void>();
  durable = promise;
  receipts.collect(await signed(), worker.admitted);
  const asked = Array.from({ length: 20 }, () => receipts.receipt(ID));
  await expect.poll(() => attempts).toBe(1);
  reject(new Error('the store is away'));
  await Promise.all(asked);
  expect(attempts).toBeLessThanOrEqual(2);
});
