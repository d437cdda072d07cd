import type { Grant } from '../proto/index.ts';

/** Times are milliseconds since 1970. Digests and ids are strings as on the wire. */
export interface StoredModel {
  /** Digest of the model package's manifest. With `owner` the key of this record: nobody can occupy another owner's digest. */
  readonly digest: string;
  readonly owner: string;
  /** owner/name@version */
  readonly model: string;
  /** The data key, wrapped under the root key. */
  readonly wrappedKey: Uint8Array;
  readonly storedAt: number;
}

export interface StoredGrant {
  /** Follows from model, owner and who is granted, so that granting again replaces. */
  readonly id: string;
  readonly digest: string;
  readonly owner: string;
  readonly grant: Grant;
  readonly grantedAt: number;
}

/** What a renewal may change of a lease. */
export interface LeaseTerm {
  readonly grant: string;
  readonly endsAt: number;
  /** Digests of the newest evidence, and of the policy it was appraised by. */
  readonly evidence: string;
  readonly policy: string;
}

export interface StoredLease extends LeaseTerm {
  /** 32 random bytes, base64url. */
  readonly id: string;
  readonly digest: string;
  readonly owner: string;
  readonly tenant: string;
  readonly function: string;
  readonly version: string;
  /** Worker id, and the receipt key (raw Ed25519, base64url) that the evidence bound. */
  readonly worker: string;
  readonly receiptKey: string;
  readonly tee: string;
  readonly startedAt: number;
  /** Set when it was revoked. */
  readonly revokedAt?: number;
  /** Set when the worker stated that the key is gone; `statement` is what it signed (JWS). */
  readonly droppedAt?: number;
  readonly statement?: string;
}

export interface AuditEntry {
  readonly at: number;
  readonly decision:
    'key-stored' | 'granted' | 'grant-removed' | 'released' | 'renewed' | 'refused' | 'revoked' | 'dropped';
  /** Of a refusal. */
  readonly code?: string;
  readonly digest?: string;
  readonly owner?: string;
  readonly tenant?: string;
  readonly function?: string;
  readonly version?: string;
  readonly worker?: string;
  readonly lease?: string;
  readonly grant?: string;
}

/**
 * What the KMS must not forget. Each method that changes something is one transaction, which writes its audit entry too,
 * and is durable when its promise resolves. Secrets come wrapped; no implementation sees one.
 *
 * Every method rejects with `CFN_STORE_FAILED` when the storage fails.
 */
export interface KeyStore {
  sealingKey(): Promise<{ readonly publicKey: string; readonly wrapped: Uint8Array } | undefined>;
  addSealingKey(publicKey: string, wrapped: Uint8Array): Promise<void>;

  /** @returns false when the name is taken */
  addOwner(name: string, tokenDigest: Uint8Array, at: number): Promise<boolean>;
  ownerTokenDigest(name: string): Promise<Uint8Array | undefined>;

  /** @returns false when the owner has stored this digest before; nothing is changed then */
  addModel(model: StoredModel): Promise<boolean>;
  model(digest: string, owner: string): Promise<StoredModel | undefined>;
  /** Of one owner, or of all. */
  models(owner: string | undefined): Promise<readonly StoredModel[]>;

  /** Adds or replaces the grant with this id. Live leases under it end no later than its `until`. */
  putGrant(grant: StoredGrant): Promise<void>;
  grants(digest: string, owner: string): Promise<readonly StoredGrant[]>;
  /** Removes the grant and revokes its live leases. @returns how many, or `undefined` when there is no such grant */
  removeGrant(id: string, digest: string, owner: string, at: number): Promise<number | undefined>;

  /** @returns false when the lease's grant is gone or ends before it: it may have changed since it was read */
  addLease(lease: StoredLease): Promise<boolean>;
  /** @returns false when the lease is not live at `at`, or its grant is gone or ends before it */
  renewLease(id: string, term: LeaseTerm, at: number): Promise<boolean>;
  lease(id: string): Promise<StoredLease | undefined>;
  /** Of one owner, or of all; newest first. */
  leases(owner: string | undefined, countMax: number): Promise<readonly StoredLease[]>;
  /** @returns false when it is not live at `at` */
  revokeLease(id: string, at: number): Promise<boolean>;
  /** Ends the lease and keeps the statement. The first statement stays. */
  dropLease(id: string, statement: string, at: number): Promise<void>;

  /** Notes a refusal. The newest `REFUSALS_KEPT` are kept. */
  addRefusal(entry: Omit<AuditEntry, 'decision'> & { readonly code: string }): Promise<void>;
  /** Newest first. */
  audit(countMax: number): Promise<readonly AuditEntry[]>;
  close(): void;
}

/** A lease is live until its end, unless it was revoked or dropped. */
export function isLive(lease: StoredLease, at: number): boolean {
  return lease.endsAt > at && lease.revokedAt === undefined && lease.droppedAt === undefined;
}
