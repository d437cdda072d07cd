export interface ModelRecord {
  /** owner/name@version */
  readonly model: string;
  /** SHA-256 of the manifest, hexadecimal. */
  readonly digest: string;
  readonly createdAt: string;
}

export interface ModelStore {
  /**
   * Stores the exact bytes of a model manifest. `false`: the same was there already.
   *
   * @throws {CfnError} `CFN_CONFLICT` when the reference names other bytes.
   */
  addModel(record: ModelRecord, manifest: Uint8Array): Promise<boolean>;
  /** Of an owner, or all, up to the limit of a list. */
  models(owner?: string): Promise<ModelRecord[]>;
  model(reference: string): Promise<{ readonly digest: string; readonly manifest: Uint8Array } | undefined>;
}
