import {
  gpuNonce,
  mergeEndorsements,
  NO_ENDORSEMENTS,
  reportData,
  toBase64url,
  type Evidence,
} from '../../proto/index.ts';
import type { CollectGpus, Quoted, SuppliedEndorsements } from './attester.ts';

/** What a worker's evidence is made of, besides the nonce and keys that it binds. */
export interface EvidenceSources {
  readonly collectGpus: CollectGpus;
  readonly quoteOver: (reportData: Uint8Array) => Promise<Quoted>;
  /** Left out: none beside the platform's own. */
  readonly endorsements?: SuppliedEndorsements;
}

/** The order that binds CPU and GPU together (design §4): GPUs first, then a quote over everything. */
export async function assembleEvidence(
  tee: Evidence['tee'],
  nonce: Uint8Array,
  workerKeys: Uint8Array,
  { collectGpus, quoteOver, endorsements = async () => NO_ENDORSEMENTS }: EvidenceSources,
): Promise<Evidence> {
  const gpus = await collectGpus(await gpuNonce(nonce, workerKeys));
  const quoted = await quoteOver(await reportData(nonce, workerKeys, gpus));
  return {
    format: 'cfn/evidence/v1',
    tee,
    nonce: toBase64url(nonce),
    workerKeys: toBase64url(workerKeys),
    quote: toBase64url(quoted.quote),
    gpus,
    endorsements: mergeEndorsements(quoted.endorsements, await endorsements({ tee, quote: quoted.quote, gpus })),
  };
}
