import type { Receipt, UsageBy, UsageRow } from '../../proto/index.ts';

export interface LedgerEntry {
  readonly jws: string;
  readonly receipt: Receipt;
}

/** A receipt as it is kept. */
export interface StoredReceipt {
  readonly id: string;
  /** Empty where the worker knew no function. */
  readonly tenant: string;
  readonly jws: string;
}

/** What quotas count: requests, ms of engines, and bytes of requests and answers. */
export interface Used {
  readonly requests: number;
  readonly engineMs: number;
  readonly bytes: number;
}

/**
 * What to sum. Hours are counted from 1970, UTC; a receipt is in the hour in which the ledger took it (see {@link ReceiptStore.addReceipts}),
 * so that sums over sealed hours never change.
 */
export interface UsageQuery {
  readonly by: UsageBy;
  /** What this tenant used; by model also what others used of the models it owns. Absent: all. */
  readonly tenant?: string | undefined;
  readonly fromHour: number;
  /** Not included. */
  readonly toHour: number;
  /** Subjects after this one. */
  readonly after?: string | undefined;
  readonly limit: number;
}

/** The receipts of one hour, sealed: nothing is added to it or to an hour before it. */
export interface SealedBatch {
  readonly hour: number;
  /** Number of receipts. */
  readonly size: number;
  /** Signed: `proto/receipt-batch.ts`. */
  readonly jws: string;
  /** What proofs are made from; its form is the sealer's. */
  readonly blocks: Uint8Array;
}

export type BatchHead = Omit<SealedBatch, 'blocks'>;

export interface ReceiptStore {
  /**
   * Adds receipts to `hour`, or to the first one that is not sealed if that is later; and their use to the sums, in one transaction. An id
   * that is there already is left as it is. Gives the number of new ones.
   */
  addReceipts(entries: readonly LedgerEntry[], hour: number): Promise<number>;
  receipt(id: string): Promise<string | undefined>;
  /** What a tenant's receipts sum up to in the hours from that of `since` on (RFC 3339, UTC). */
  usedSince(tenant: string, since: string): Promise<Used>;
  /** Ordered by subject. */
  usage(query: UsageQuery): Promise<UsageRow[]>;

  /** Receipts of a worker, by their sequence, from this one on. */
  receiptsOfWorker(worker: string, fromSequence: number, limit: number): Promise<string[]>;

  /** Hours that hold receipts, are not sealed and lie before `hour`; ascending. */
  unsealedHours(beforeHour: number): Promise<number[]>;
  /** Receipts of an hour, ordered by id, after this one. */
  receiptsOfHour(hour: number, afterId: string, limit: number): Promise<StoredReceipt[]>;
  hourOfReceipt(id: string): Promise<number | undefined>;
  /**
   * Seals an hour. `false`, and nothing is done: the newest batch is not of `previousHour` (`undefined`: there is none), or the hour does
   * not hold `size` receipts any more.
   */
  addBatch(batch: SealedBatch, previousHour: number | undefined): Promise<boolean>;
  batch(hour: number): Promise<SealedBatch | undefined>;
  newestBatch(): Promise<BatchHead | undefined>;
  /** Ascending, after this hour. */
  batches(afterHour: number, limit: number): Promise<BatchHead[]>;

  /** Evidence JSON by its digest, so that a receipt can be checked after the worker is gone. */
  addEvidence(digest: string, json: string): Promise<void>;
  evidence(digest: string): Promise<string | undefined>;
}
