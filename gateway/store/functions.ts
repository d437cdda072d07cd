export interface FunctionRecord {
  readonly tenant: string;
  readonly name: string;
  /** The version that gets most requests: SHA-256 of the manifest's payload, hexadecimal. */
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
  /** Stores a version, and deploys nothing. `false`: this version was stored before. */
  uploadVersion(version: FunctionVersion, at: string): Promise<boolean>;
  /** Stores a version and deploys it for all requests, in one step. `false`: this version was stored before. */
  addVersion(version: FunctionVersion, deployedAt: string): Promise<boolean>;
  functions(tenant?: string): Promise<FunctionRecord[]>;
  currentVersion(tenant: string, name: string): Promise<FunctionRecord | undefined>;
  version(version: string): Promise<FunctionVersion | undefined>;
}
