export interface ApiKeyRecord {
  /** 16 hexadecimal digits; no secret. */
  readonly id: string;
  /** For people. */
  readonly name: string;
  readonly role: string;
  /** Whose it is; absent: the operator's. */
  readonly tenant?: string;
  readonly createdAt: string;
  readonly expiresAt?: string;
  /** The hour of the last use. */
  readonly usedAt?: string;
  /** SHA-256 of the key. */
  readonly digest: Uint8Array;
}

export interface KeyStore {
  addKey(record: ApiKeyRecord): Promise<void>;
  key(id: string): Promise<ApiKeyRecord | undefined>;
  /** Of a tenant, or all, oldest first, up to the limit of a list. */
  keys(tenant?: string): Promise<ApiKeyRecord[]>;
  /** `false`: there is none of this id, or not of this tenant. */
  removeKey(id: string, tenant?: string): Promise<boolean>;
  /** Nothing happens where the key is gone. */
  keyUsed(id: string, usedAt: string): Promise<void>;
}
