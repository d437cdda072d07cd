import type { AuditEntry, AuditLine, Grant, Quotas, ResourceTerms } from '../proto/index.ts';

/** Times are milliseconds since 1970. Digests and ids are strings as on the wire. */
export interface StoredModel {
  /** Digest of the model package's manifest. With `owner` the key of this record: nobody can occupy another owner's digest. */
  readonly digest: string;
  readonly owner: string;
  /** owner/name@version */
  readonly model: string;
  /** The data key, wrapped under version `keyVersion` of the owner's namespace key; empty when it was withdrawn. */
  readonly wrappedKey: Uint8Array;
  readonly keyVersion: number;
  readonly storedAt: number;
  /** Set when its owner withdrew it, for good. */
  readonly withdrawnAt?: number;
}

export interface StoredOwner {
  readonly name: string;
  /** The owner's own appraisal policy, JSON; without one the KMS's counts. */
  readonly policy?: string;
  readonly quotas?: Quotas;
  readonly addedAt: number;
}

export interface StoredToken {
  /** Unique within the owner's. */
  readonly id: string;
  readonly owner: string;
  readonly role: 'admin' | 'auditor';
  readonly digest: Uint8Array;
  readonly madeAt: number;
}

/** A version of the key under which an owner's data keys are wrapped; itself wrapped under the root key. */
export interface StoredNamespaceKey {
  readonly owner: string;
  /** From 1; the greatest is in use. */
  readonly version: number;
  /** Empty when it was retired: nothing is wrapped under it any more. */
  readonly wrapped: Uint8Array;
  readonly madeAt: number;
  readonly retiredAt?: number;
}

/** A resource's name: `owner/type/tag` to clients of the key broker protocol. */
export interface ResourceKey {
  readonly owner: string;
  readonly type: string;
  readonly tag: string;
}

export interface StoredResource extends ResourceKey {
  /** The content, wrapped under version `keyVersion` of the owner's namespace key. */
  readonly wrapped: Uint8Array;
  /** Length of the content. */
  readonly bytes: number;
  readonly keyVersion: number;
  readonly terms: ResourceTerms;
  readonly storedAt: number;
}

/** A key pair of the KMS itself, its private half wrapped under the root key. */
export interface StoredSecret {
  readonly name: string;
  readonly publicKey: string;
  readonly wrapped: Uint8Array;
}

/** The secrets of one function; `id` as `secretsId` makes it. */
export interface StoredSecretSet {
  readonly id: string;
  readonly owner: string;
  readonly tenant: string;
  readonly function: string;
  /** Another one after each change. A lease names it as its grant. */
  readonly revision: string;
  /** By name. */
  readonly secrets: readonly StoredFunctionSecret[];
}

export interface StoredFunctionSecret {
  /** Of the set. */
  readonly id: string;
  readonly name: string;
  /** The value, wrapped under version `keyVersion` of the owner's namespace key. */
  readonly wrapped: Uint8Array;
  readonly keyVersion: number;
  /** Who must have signed the function; and which version it must be. */
  readonly author: string;
  readonly version?: string;
  readonly leaseMs: number;
  readonly storedAt: number;
}

/** A function version that its author withdrew, for good. */
export interface StoredWithdrawal {
  readonly version: string;
  readonly author: string;
  /** What the author signed (JWS). */
  readonly statement: string;
  readonly at: number;
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
  /** Version of the namespace key that wrapped the data key when it was released. */
  readonly keyVersion: number;
  readonly startedAt: number;
  /** Set when it was revoked. */
  readonly revokedAt?: number;
  /** Invocations, as the worker last stated; `usage` is what it signed then (JWS). */
  readonly used: number;
  readonly usage?: string;
  /** Where the grant has a limit: how many of its invocations this lease was given, all in all. */
  readonly allowed?: number;
  /** Set when the worker stated that the key is gone; `statement` is what it signed (JWS). */
  readonly droppedAt?: number;
  readonly statement?: string;
}

/** A lease as it is made; what it may use follows from the grant. */
export type NewLease = Omit<StoredLease, 'used' | 'usage' | 'allowed' | 'revokedAt' | 'droppedAt' | 'statement'>;

/** What a worker states of its use. */
export interface StatedUse {
  readonly used: number;
  readonly statement: string;
}

/** Invocations under a grant. */
export interface GrantCount {
  readonly used: number;
  /** Allowed to leases, less what was given back, and used without a limit. Leases take nothing that would bring it over the grant's limit. */
  readonly taken: number;
  /** Of what was taken, what live leases may still use. The rest of what was not used is lost: workers that ended without a word had it. */
  readonly outstanding: number;
}

/** A lease that ends before the time that its worker was told. */
export type EndedEarly = Pick<StoredLease, 'id' | 'worker' | 'endsAt' | 'revokedAt'>;

/**
 * What the KMS must not forget. Each method that changes something is one transaction, which writes its audit entry too,
 * and is durable when its promise resolves. Secrets come wrapped; no implementation sees one.
 *
 * Every method rejects with `CFN_STORE_FAILED` when the storage fails, and those that add something with `CFN_QUOTA_EXCEEDED` when the
 * owner is at a quota.
 */
export interface KeyStore
  extends SecretStore, OwnerStore, ModelStore, ResourceStore, FunctionSecretStore, LeaseStore, AuditStore {
  close(): void;
}

export interface SecretStore {
  secret(name: string): Promise<StoredSecret | undefined>;
  secrets(): Promise<readonly StoredSecret[]>;
  addSecret(secret: StoredSecret): Promise<void>;
}

export interface OwnerStore {
  /** Adds an owner with a first token and namespace key. @returns false when the name is taken */
  addOwner(owner: StoredOwner, token: StoredToken, key: StoredNamespaceKey): Promise<boolean>;
  owner(name: string): Promise<StoredOwner | undefined>;
  owners(): Promise<readonly StoredOwner[]>;
  setQuotas(owner: string, quotas: Quotas, at: number): Promise<boolean>;
  /** @param policy JSON, or `undefined` for the KMS's own; `subject` is its digest, for the audit log */
  setPolicy(owner: string, policy: string | undefined, subject: string, at: number): Promise<void>;

  tokens(owner: string): Promise<readonly StoredToken[]>;
  addToken(token: StoredToken): Promise<void>;
  /** @returns false when there is no such token, or it is the last with the role `admin` */
  removeToken(owner: string, id: string, at: number): Promise<boolean>;

  /** Of one owner, or of all; oldest first. */
  namespaceKeys(owner?: string): Promise<readonly StoredNamespaceKey[]>;
  /**
   * Adds the next version, wraps all data keys, function secrets and resources of the owner under it, and forgets the one before.
   *
   * @param rewrap gives a model's data key or a function's secret under the new version, `rewrapResource` a resource
   * @returns how many models, or `undefined` when another rotation came first
   */
  rotateNamespaceKey(
    key: StoredNamespaceKey,
    rewrap: (wrapped: StoredModel | StoredFunctionSecret) => Uint8Array,
    rewrapResource: (resource: StoredResource) => Uint8Array,
  ): Promise<number | undefined>;
  /** Replaces what the root key wrapped, where it is still what it was. @param version of the root key, for the audit log */
  rewrapAll(
    changes: readonly { readonly key: StoredNamespaceKey | StoredSecret; readonly wrapped: Uint8Array }[],
    version: number,
    at: number,
  ): Promise<void>;
}

export interface ModelStore {
  /**
   * @returns `present` when the owner has stored this digest before, `stale` when the namespace key was rotated meanwhile; nothing is
   *   changed then
   */
  addModel(model: StoredModel): Promise<'added' | 'present' | 'stale'>;
  model(digest: string, owner: string): Promise<StoredModel | undefined>;
  /** Of one owner, or of all. */
  models(owner: string | undefined): Promise<readonly StoredModel[]>;
  /** Forgets the data key, and revokes the live leases. @returns how many, or `undefined` when there is no such model */
  withdrawModel(digest: string, owner: string, at: number): Promise<number | undefined>;
  /** Revokes the version's live leases, too. @returns how many. The first statement stays. */
  withdrawFunction(withdrawal: StoredWithdrawal): Promise<number>;
  withdrawal(version: string): Promise<StoredWithdrawal | undefined>;
}

export interface FunctionSecretStore {
  /**
   * Adds or replaces secrets of a function, and revokes the leases on them.
   *
   * @returns how many leases, or `undefined` when the namespace key was rotated meanwhile; nothing is changed then
   */
  putFunctionSecrets(
    set: Omit<StoredSecretSet, 'secrets'>,
    secrets: readonly StoredFunctionSecret[],
  ): Promise<number | undefined>;
  functionSecrets(id: string): Promise<StoredSecretSet | undefined>;
  /** Forgets one, and revokes the leases on all. @returns how many leases, or `undefined` when there is no such secret */
  deleteFunctionSecret(id: string, name: string, revision: string, at: number): Promise<number | undefined>;
}

export interface ResourceStore {
  /** Adds or replaces. @returns false when the namespace key was rotated meanwhile; nothing is changed then */
  putResource(resource: StoredResource): Promise<boolean>;
  resource(key: ResourceKey): Promise<StoredResource | undefined>;
  resources(owner: string): Promise<readonly StoredResource[]>;
  /** @returns false when there is no such resource */
  removeResource(key: ResourceKey, at: number): Promise<boolean>;
  /** Notes a release. @param client SHA-256 of the client's key @returns false when the resource is not what it was when it was read */
  noteResourceReleased(resource: StoredResource, client: string, at: number): Promise<boolean>;
}

export interface LeaseStore {
  /** Adds or replaces the grant with this id. Live leases under it end no later than its `until`. */
  putGrant(grant: StoredGrant): Promise<void>;
  grants(digest: string, owner: string): Promise<readonly StoredGrant[]>;
  /** Removes the grant and revokes its live leases. @returns how many, or `undefined` when there is no such grant */
  removeGrant(id: string, digest: string, owner: string, at: number): Promise<number | undefined>;

  /**
   * Where the grant has a limit, the lease takes a slice of what is left of it, so that all leases together never use more.
   *
   * @returns `undefined` when grant, model or function version are not what they were when they were read: gone, shortened, withdrawn; or secrets
   *   were changed
   * @throws {CfnError} `CFN_ALLOWANCE_SPENT`, `CFN_ALLOWANCE_WAITING`
   */
  addLease(lease: NewLease): Promise<StoredLease | undefined>;
  /**
   * Takes another slice where the one before is nearly used.
   *
   * @param stated what its worker says it used
   * @returns `undefined` when the lease is not live at `at`, or as {@link addLease}
   * @throws {CfnError} `CFN_RECEIPT_INVALID` when less was used than before, or more than was allowed
   */
  renewLease(id: string, term: LeaseTerm, at: number, stated?: StatedUse): Promise<StoredLease | undefined>;
  count(grant: string, at: number): Promise<GrantCount>;
  lease(id: string): Promise<StoredLease | undefined>;
  /** The receipt key of a worker that holds a live lease. */
  receiptKeyOf(worker: string, at: number): Promise<string | undefined>;
  /** Of one owner, or of all; newest first. */
  leases(owner: string | undefined, countMax: number): Promise<readonly StoredLease[]>;
  /** @returns false when it is not live at `at` */
  revokeLease(id: string, at: number): Promise<boolean>;
  /** Ends all live leases after a restore, and notes it in every audit log. @returns how many */
  endAllLeases(at: number): Promise<number>;
  /**
   * Ends the lease, keeps the statement, and gives back what the worker did not use. The first statement stays.
   *
   * @param used `undefined`: all that it was allowed
   */
  dropLease(id: string, statement: string, at: number, used: number | undefined): Promise<void>;
  /** Calls `listener` for each lease that ends early, once that is on the disk. */
  watchEnds(listener: (lease: EndedEarly) => void): void;
}

export interface AuditStore {
  /** Notes what changes nothing else, such as a refusal. @param owner whose chain; `''`: the KMS's own */
  addAudit(owner: string, entry: AuditEntry): Promise<void>;
  /** The entries after number `after`, oldest first, the checkpoints among them, and the newest of all. */
  auditPage(
    owner: string,
    after: number,
    countMax: number,
  ): Promise<{ readonly lines: AuditLine[]; readonly checkpoints: string[]; readonly head?: string }>;
  /** @throws {CfnError} `CFN_AUDIT_ALTERED` when a log does not end where its newest checkpoint says */
  checkHeads(): Promise<void>;
  /** The newest checkpoint of each log. */
  heads(): Promise<readonly string[]>;
}

/** A lease is live until its end, unless it was revoked or dropped. */
export function isLive(lease: StoredLease, at: number): boolean {
  return lease.endsAt > at && lease.revokedAt === undefined && lease.droppedAt === undefined;
}
