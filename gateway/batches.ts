import { createHash } from 'node:crypto';
import type { CryptoKey, JWK } from 'jose';
import {
  CfnError,
  fromHex,
  hourOf,
  hourStart,
  RECEIPT_BLOCK,
  signBatch,
  toCfnError,
  toHex,
  utf8,
  type ReceiptProof,
} from '../proto/index.ts';
import { leafHash, merkleTree } from '../proto/node.ts';
import { BATCH_SEAL_DELAY_MS, BATCH_SEAL_EVERY_MS } from './limits.ts';
import type { Log } from './log.ts';
import type { Store, StoredReceipt } from './store/index.ts';

/**
 * Seals the ledger by the hour. The tree over an hour is kept as the roots of its blocks of {@link RECEIPT_BLOCK} receipts, each with the
 * last request id in it: a block is a full subtree, so that a proof reads one block and these roots, however many receipts the hour has.
 */
export interface Batches {
  /** Seals what is over. Several gateways may try; an hour is sealed once. */
  seal(): Promise<void>;
  /** @throws {CfnError} `CFN_RECEIPT_NOT_FOUND`, `CFN_BATCH_NOT_SEALED` */
  proof(id: string): Promise<ReceiptProof>;
  /** Receipts of a sealed hour, one block; `undefined` where there is none. */
  block(hour: number, block: number): Promise<StoredReceipt[] | undefined>;
  stop(): Promise<void>;
}

/** Signs batches: an Ed25519 key of this role alone. */
export interface BatchSigner {
  readonly key: CryptoKey;
  readonly publicJwk: JWK;
}

const ID_BYTES = 16;
const ENTRY_BYTES = ID_BYTES + 32;

export function batches(deps: {
  readonly store: Store;
  readonly signer: BatchSigner;
  readonly now: () => Date;
  readonly log: Log;
}): Batches {
  const { store, signer, now, log } = deps;
  let sealing: Promise<void> = Promise.resolve();
  const sealSoon = (): void => {
    sealing = sealing.then(seal).catch((cause: unknown) => log('receipts.unsealed', { code: toCfnError(cause).code }));
  };
  const timer = setInterval(sealSoon, BATCH_SEAL_EVERY_MS);
  timer.unref();
  sealSoon();

  async function seal(): Promise<void> {
    const before = hourOf(new Date(now().getTime() - BATCH_SEAL_DELAY_MS));
    for (const hour of await store.unsealedHours(before)) {
      const previous = await store.newestBatch();
      const roots: Uint8Array[] = [];
      const entries: Uint8Array[] = [];
      let size = 0;
      for (let last = ''; ;) {
        const receipts = await store.receiptsOfHour(hour, last, RECEIPT_BLOCK);
        last = receipts.at(-1)?.id ?? '';
        if (receipts.length === 0) break;
        const { root } = treeOf(receipts);
        roots.push(root);
        entries.push(fromHex(last), root);
        size += receipts.length;
        if (receipts.length < RECEIPT_BLOCK) break;
      }
      const batch = {
        format: 'cfn/receipt-batch/v1' as const,
        hour: hourStart(hour),
        size,
        root: toHex(merkleTree(roots).root),
        previous: previous === undefined ? '' : createHash('sha256').update(previous.jws).digest('hex'),
        sealedAt: now().toISOString(),
      };
      const jws = await signBatch(batch, signer.key, signer.publicJwk);
      const sealed = await store.addBatch({ hour, size, jws, blocks: Buffer.concat(entries) }, previous?.hour);
      if (!sealed) return; // another gateway was first, or a receipt came in between: the next turn sees it
      log('receipts.sealed', { hour: batch.hour, size });
    }
  }

  async function blockAfter(hour: number, blocks: Uint8Array, block: number): Promise<StoredReceipt[]> {
    const after = block === 0 ? '' : lastId(blocks, block - 1);
    return store.receiptsOfHour(hour, after, RECEIPT_BLOCK);
  }

  return {
    seal,
    async proof(id) {
      const hour = await store.hourOfReceipt(id);
      if (hour === undefined) throw new CfnError('CFN_RECEIPT_NOT_FOUND', 'no receipt has this request id');
      const batch = await store.batch(hour);
      if (batch === undefined)
        throw new CfnError('CFN_BATCH_NOT_SEALED', `the hour from ${hourStart(hour)} is not sealed yet`);
      const count = batch.blocks.length / ENTRY_BYTES;
      const roots = Array.from({ length: count }, (_, i) =>
        batch.blocks.subarray(i * ENTRY_BYTES + ID_BYTES, (i + 1) * ENTRY_BYTES),
      );
      const block = roots.findIndex((_, i) => lastId(batch.blocks, i) >= id);
      const receipts = await blockAfter(hour, batch.blocks, block);
      const place = receipts.findIndex((receipt) => receipt.id === id);
      const path = [...treeOf(receipts).path(place), ...merkleTree(roots).path(block)];
      return {
        format: 'cfn/receipt-proof/v1',
        id,
        index: block * RECEIPT_BLOCK + place,
        path: path.map(toHex),
        batch: batch.jws,
      };
    },
    async block(hour, block) {
      const batch = await store.batch(hour);
      if (batch === undefined || block >= batch.blocks.length / ENTRY_BYTES) return undefined;
      return blockAfter(hour, batch.blocks, block);
    },
    async stop() {
      clearInterval(timer);
      await sealing;
    },
  };
}

const treeOf = (receipts: readonly StoredReceipt[]): ReturnType<typeof merkleTree> =>
  merkleTree(receipts.map(({ jws }) => leafHash(utf8(jws))));
const lastId = (blocks: Uint8Array, block: number): string =>
  toHex(blocks.subarray(block * ENTRY_BYTES, block * ENTRY_BYTES + ID_BYTES));
