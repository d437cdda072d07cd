import { createHash, webcrypto } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fromHex, hourOf, toHex, utf8, verifyBatch, type ReceiptProof } from '../proto/index.ts';
import { leafHash, rootOfPath } from '../proto/node.ts';
import { batches, type Batches, type BatchSigner } from './batches.ts';
import { receiptOf } from './store/contract/store.contract.ts';
import { sqliteStore, type Store } from './store/index.ts';
import { temporaryFolder } from './testkit.ts';

const HOUR = 3_600_000;
const T0 = new Date('2026-11-01T10:30:00Z');
const idOf = (i: number): string => i.toString(16).padStart(32, '0');
const jwsOf = (i: number): string => `receipt-${i}`;

let store: Store;
let now: Date;
let signer: BatchSigner;
const open: Batches[] = [];
const sealer = (): Batches => {
  const made = batches({ store, signer, now: () => now, log: () => undefined });
  open.push(made);
  return made;
};
beforeEach(async () => {
  store = sqliteStore(join(temporaryFolder(), 'gateway.sqlite'));
  now = T0;
  const keys = (await webcrypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair;
  signer = { key: keys.privateKey, publicJwk: await crypto.subtle.exportKey('jwk', keys.publicKey) };
});
afterEach(async () => {
  for (const it of open.splice(0)) await it.stop();
  await store.close();
});

const add = (from: number, to: number, at = now): Promise<number> =>
  store.addReceipts(
    Array.from({ length: to - from }, (_, i) => ({
      jws: jwsOf(from + i),
      receipt: receiptOf(idOf(from + i), { sequence: from + i }),
    })),
    hourOf(at),
  );
async function rootProven({ id, index, path, batch }: ReceiptProof): Promise<boolean> {
  const { size, root } = (await verifyBatch(batch)).batch;
  const leaf = leafHash(utf8(jwsOf(parseInt(id, 16))));
  const led = rootOfPath(
    leaf,
    index,
    size,
    path.map((hash) => fromHex(hash)),
  );
  return led !== undefined && toHex(led) === root;
}

describe('INV-43 a sealed hour', () => {
  test.each([1, 255, 256, 257, 700])('of %i receipts proves each of them', async (size) => {
    await add(0, size);
    now = new Date(T0.getTime() + HOUR);
    const sealing = sealer();
    await sealing.seal();
    for (const i of new Set([0, 1, 254, 255, 256, 511, 512, size - 1].filter((it) => it < size))) {
      const proof = await sealing.proof(idOf(i));
      expect(proof.index).toBe(i);
      expect(await rootProven(proof)).toBe(true);
      expect(await rootProven({ ...proof, id: idOf(i + 1) })).toBe(false);
    }
    const blocks = await Promise.all([0, 1, 2, 3].map((block) => sealing.block(hourOf(T0), block)));
    expect(blocks.flatMap((block) => block ?? []).map(({ jws }) => jws)).toEqual(
      Array.from({ length: size }, (_, i) => jwsOf(i)),
    );
  });

  test('is sealed some time after its end, and not before', async () => {
    await add(0, 1);
    const sealing = sealer();
    now = new Date('2026-11-01T11:00:30Z');
    await sealing.seal();
    await expect(sealing.proof(idOf(0))).rejects.toMatchObject({ code: 'CFN_BATCH_NOT_SEALED' });
    now = new Date('2026-11-01T11:01:30Z');
    await sealing.seal();
    expect(await rootProven(await sealing.proof(idOf(0)))).toBe(true);
    await expect(sealing.proof(idOf(1))).rejects.toMatchObject({ code: 'CFN_RECEIPT_NOT_FOUND' });
  });

  test('names the one before it, and takes no receipt that comes late', async () => {
    await add(0, 2);
    now = new Date(T0.getTime() + 2 * HOUR);
    const sealing = sealer();
    await sealing.seal();
    await add(2, 3, T0); // late: of a gateway whose clock is behind
    await sealing.seal();
    const heads = await store.batches(-1, 10);
    const [first, second] = await Promise.all(heads.map(({ jws }) => verifyBatch(jws)));
    expect(heads).toHaveLength(2);
    expect(first?.batch).toMatchObject({ hour: '2026-11-01T10:00:00.000Z', size: 2, previous: '' });
    expect(second?.batch).toMatchObject({ hour: '2026-11-01T11:00:00.000Z', size: 1 });
    expect(second?.batch.previous).toBe(
      createHash('sha256')
        .update(heads[0]?.jws ?? '')
        .digest('hex'),
    );
  });

  test('is sealed once by several gateways on one store', async () => {
    await add(0, 300);
    now = new Date(T0.getTime() + HOUR);
    const gateways = [sealer(), sealer(), sealer()];
    await Promise.all(gateways.map((it) => it.seal()));
    expect(await store.batches(-1, 10)).toHaveLength(1);
  });
});
