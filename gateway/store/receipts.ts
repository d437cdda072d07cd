import type { Receipt } from '../../proto/index.ts';

export interface LedgerEntry {
  readonly jws: string;
  readonly receipt: Receipt;
}

/** Sums over receipts of one function; milliseconds and bytes. */
export interface UsageRow {
  readonly tenant: string;
  readonly name: string;
  readonly requests: number;
  readonly failed: number;
  readonly cpuMs: number;
  readonly engineMs: number;
  readonly requestBytes: number;
  readonly responseBytes: number;
}

/** What quotas count: requests, ms of engines, and bytes of requests and answers. */
export interface Used {
  readonly requests: number;
  readonly engineMs: number;
  readonly bytes: number;
}

export interface ReceiptStore {
  /** Adds receipts in one transaction; an id that is there already is left as it is. Gives the number of new ones. */
  addReceipts(entries: readonly LedgerEntry[]): Promise<number>;
  receipt(id: string): Promise<string | undefined>;
  usage(tenant?: string): Promise<UsageRow[]>;
  /** What a tenant's receipts sum up to since the beginning of an hour (RFC 3339, UTC). */
  usedSince(tenant: string, since: string): Promise<Used>;

  /** Evidence JSON by its digest, so that a receipt can be checked after the worker is gone. */
  addEvidence(digest: string, json: string): Promise<void>;
  evidence(digest: string): Promise<string | undefined>;
}
