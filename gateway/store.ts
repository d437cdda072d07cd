import type { Receipt } from '../proto/index.ts';

export interface Tenant {
  readonly name: string;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
}

export interface ModelRecord {
  /** owner/name@version */
  readonly model: string;
  /** SHA-256 of the manifest, hexadecimal. */
  readonly digest: string;
  readonly createdAt: string;
}

export interface FunctionRecord {
  readonly tenant: string;
  readonly name: string;
  /** The current version: SHA-256 of the manifest's payload, hexadecimal. */
  readonly version: string;
  readonly deployedAt: string;
}

export interface FunctionVersion {
  readonly tenant: string;
  readonly name: string;
  readonly version: string;
  /** The signed manifest. */
  readonly jws: string;
  readonly bundle: Uint8Array;
}

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

/**
 * What the gateway may not lose. A call that returned has been written durably. `store.contract.ts` is the suite for every
 * implementation. Calls throw `CFN_STORE_FAILED` when the store does not take or give what it should.
 */
export interface Store {
  /** @throws {CfnError} `CFN_CONFLICT` when the tenant exists. */
  addTenant(tenant: Tenant): Promise<void>;
  hasTenant(name: string): Promise<boolean>;

  /**
   * Stores the exact bytes of a model manifest. `false`: the same was there already.
   *
   * @throws {CfnError} `CFN_CONFLICT` when the reference names other bytes.
   */
  addModel(record: ModelRecord, manifest: Uint8Array): Promise<boolean>;
  models(): Promise<ModelRecord[]>;
  model(reference: string): Promise<{ readonly digest: string; readonly manifest: Uint8Array } | undefined>;

  /** Stores a version and makes it the current one, in one step. `false`: this version was stored before. */
  addVersion(version: FunctionVersion, deployedAt: string): Promise<boolean>;
  functions(tenant?: string): Promise<FunctionRecord[]>;
  currentVersion(tenant: string, name: string): Promise<FunctionRecord | undefined>;
  version(version: string): Promise<FunctionVersion | undefined>;

  /** Adds receipts in one transaction; an id that is there already is left as it is. Gives the number of new ones. */
  addReceipts(entries: readonly LedgerEntry[]): Promise<number>;
  receipt(id: string): Promise<string | undefined>;
  usage(tenant?: string): Promise<UsageRow[]>;

  /** Evidence JSON by its digest, so that a receipt can be checked after the worker is gone. */
  addEvidence(digest: string, json: string): Promise<void>;
  evidence(digest: string): Promise<string | undefined>;

  /** What the operator said of a subject; the newest word counts. */
  setConsent(subject: string, admitted: boolean): Promise<void>;
  /** Of these subjects, or of all, up to the limit of a list. */
  consents(subjects?: readonly string[]): Promise<ReadonlyMap<string, boolean>>;

  /** Addresses that an operator named; each is admitted anew after a restart, never trusted from here. */
  addWorkerAddress(address: string): Promise<void>;
  removeWorkerAddress(address: string): Promise<void>;
  workerAddresses(): Promise<string[]>;

  close(): Promise<void>;
}
