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

export interface FunctionStore {
  /** Stores a version and makes it the current one, in one step. `false`: this version was stored before. */
  addVersion(version: FunctionVersion, deployedAt: string): Promise<boolean>;
  functions(tenant?: string): Promise<FunctionRecord[]>;
  currentVersion(tenant: string, name: string): Promise<FunctionRecord | undefined>;
  version(version: string): Promise<FunctionVersion | undefined>;
}
