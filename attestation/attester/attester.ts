import type { Endorsements, Evidence } from '../../proto/index.ts';

/** Makes evidence, inside the TEE. */
export interface Attester {
  readonly tee: Evidence['tee'];
  /**
   * Evidence that binds a nonce (32 bytes) and the worker keys document (exact bytes). GPU evidence is collected first, with a
   * nonce derived from both, so that the quote covers it.
   *
   * @throws {CfnError} `CFN_QUOTE_UNAVAILABLE`, `CFN_GPU_UNAVAILABLE` or `CFN_BUSY` when the platform does not answer now;
   *   `CFN_TEE_ABSENT` when there is none; `CFN_GPU_NOT_CONFIDENTIAL` when a GPU is not in the state that it must be in.
   */
  collect(nonce: Uint8Array, workerKeys: Uint8Array): Promise<Evidence>;
  /** GPU evidence and a quote over whatever another scheme binds. Throws as {@link collect}. */
  collectOver(binding: EvidenceBinding): Promise<BoundEvidence>;
}

/** What evidence is over, in a scheme. */
export interface EvidenceBinding {
  /** 32 bytes. */
  readonly gpuNonce: Uint8Array;
  /** The 64 bytes of report data, which can cover what the GPUs answered. */
  readonly reportData: (gpus: Evidence['gpus']) => Promise<Uint8Array>;
}

/** Evidence without the document around it. */
export interface BoundEvidence extends Quoted {
  readonly tee: Evidence['tee'];
  readonly gpus: Evidence['gpus'];
}

/** Asks every GPU for a report over the 32-byte nonce; a worker without GPU returns `[]`. */
export type CollectGpus = (gpuNonce: Uint8Array) => Promise<Evidence['gpus']>;

/** A quote, and the endorsements that the platform hands over with it (SNP: the host's certificate table). */
export interface Quoted {
  readonly quote: Uint8Array;
  readonly endorsements: Endorsements;
}

/** What endorsements are wanted for. */
export type CollectedEvidence = Pick<Evidence, 'tee' | 'gpus'> & { readonly quote: Uint8Array };

/** Endorsements that the operator supplies: of a file, or fetched for what was collected. They need no trust: verifiers check each. */
export type SuppliedEndorsements = (collected: CollectedEvidence) => Promise<Endorsements>;
