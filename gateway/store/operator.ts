/** What the operator decides: who is admitted, and where workers are. */
export interface OperatorStore {
  /** What the operator said of a subject; the newest word counts. */
  setConsent(subject: string, admitted: boolean): Promise<void>;
  /** Of these subjects, or of all, up to the limit of a list. */
  consents(subjects?: readonly string[]): Promise<ReadonlyMap<string, boolean>>;

  /** Addresses that an operator named; each is admitted anew after a restart, never trusted from here. */
  addWorkerAddress(address: string): Promise<void>;
  removeWorkerAddress(address: string): Promise<void>;
  workerAddresses(): Promise<string[]>;
}
