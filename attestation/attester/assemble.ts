import { gpuNonce, NO_ENDORSEMENTS, reportData, toBase64url, type Evidence } from '../../proto/index.ts';
import type { CollectGpus } from './attester.ts';

/** The order that binds CPU and GPU together (design §4): GPUs first, then a quote over everything. */
export async function assembleEvidence(
  tee: Evidence['tee'],
  nonce: Uint8Array,
  workerKeys: Uint8Array,
  collectGpus: CollectGpus,
  quoteOver: (reportData: Uint8Array) => Promise<Uint8Array>,
): Promise<Evidence> {
  const gpus = await collectGpus(await gpuNonce(nonce, workerKeys));
  const quote = await quoteOver(await reportData(nonce, workerKeys, gpus));
  return {
    format: 'cfn/evidence/v1',
    tee,
    nonce: toBase64url(nonce),
    workerKeys: toBase64url(workerKeys),
    quote: toBase64url(quote),
    gpus,
    endorsements: NO_ENDORSEMENTS,
  };
}
