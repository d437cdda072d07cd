import { createHash } from 'node:crypto';
import { decodeJwt } from 'jose';
import { expect, test } from 'vitest';
import type { Receipt } from '../../proto/index.ts';
import { receiptOf } from '../../gateway/store/contract/store.contract.ts';
import { receiptBook, type ReceiptBook } from './receipts.ts';

const { privateKey } = (await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify'])) as CryptoKeyPair;
const book = (outstandingMax?: number): ReceiptBook => receiptBook(privateKey, () => 0, outstandingMax);
const { sequence: _, previous: __, ...claims } = receiptOf('1'.repeat(32));
const sequences = (from: ReceiptBook): number[] => [...from.outstanding()].map(({ sequence }) => sequence);

test('each receipt names the one before it, however many are signed at once', async () => {
  const receipts = book();
  const signed = await Promise.all([1, 2, 3].map(() => receipts.reserve().sign(claims)));
  const read = signed.map((jws) => decodeJwt(jws) as unknown as Receipt);
  expect(read.map(({ sequence }) => sequence)).toEqual([0, 1, 2]);
  const digests = signed.map((jws) => createHash('sha256').update(jws).digest('hex'));
  expect(read.map(({ previous }) => previous)).toEqual(['', ...digests.slice(0, 2)]);
});

test('keeps a receipt until it is acknowledged', async () => {
  const receipts = book();
  for (let i = 0; i < 3; i++) await receipts.reserve().sign(claims);
  receipts.acknowledge([1, 7]);
  expect(sequences(receipts)).toEqual([0, 2]);
  let settled = false;
  const settling = receipts.settled(60_000).then(() => (settled = true));
  receipts.acknowledge([0]);
  await Promise.resolve();
  expect(settled).toBe(false);
  receipts.acknowledge([2]);
  await settling;
  expect(sequences(receipts)).toEqual([]);
});

test('INV-41 begins no request whose receipt it could not keep', async () => {
  const receipts = book(2);
  const [first, second] = [receipts.reserve(), receipts.reserve()];
  const refused = expect.objectContaining({ code: 'CFN_LEDGER_BEHIND' }) as Error;
  expect(() => receipts.reserve()).toThrowError(refused);
  second.release(); // a request without a receipt
  second.release();
  const third = receipts.reserve();
  await Promise.all([first.sign(claims), third.sign(claims)]);
  expect(() => receipts.reserve()).toThrowError(refused);
  receipts.acknowledge([0]);
  expect(() => receipts.reserve()).not.toThrow();
  expect(() => receipts.reserve()).toThrowError(refused);
});
