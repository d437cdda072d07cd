import type { Evidence } from '../../proto/index.ts';

/** Makes evidence, inside the TEE. */
export interface Attester {
  readonly tee: Evidence['tee'];
  /**
   * Evidence that binds a nonce (32 bytes) and the worker keys document (exact bytes). GPU evidence is collected first, with a
   * nonce derived from both, so that the quote covers it.
   *
   * @throws {CfnError} `CFN_QUOTE_UNAVAILABLE` when the platform does not answer now; `CFN_TEE_ABSENT` when there is none.
   */
  collect(nonce: Uint8Array, workerKeys: Uint8Array): Promise<Evidence>;
}

/** Asks every GPU for a report over the 32-byte nonce; a worker without GPU returns `[]`. */
export type CollectGpus = (gpuNonce: Uint8Array) => Promise<Evidence['gpus']>;
