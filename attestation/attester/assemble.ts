import {
  gpuNonce,
  mergeEndorsements,
  NO_ENDORSEMENTS,
  reportData,
  toBase64url,
  type Evidence,
} from '../../proto/index.ts';
import type { BoundEvidence, CollectGpus, EvidenceBinding, Quoted, SuppliedEndorsements } from './attester.ts';

/** What a worker's evidence is made of, besides the nonce and keys that it binds. */
export interface EvidenceSources {
  readonly collectGpus: CollectGpus;
  readonly quoteOver: (reportData: Uint8Array) => Promise<Quoted>;
  /** Left out: none beside the platform's own. */
  readonly endorsements?: SuppliedEndorsements;
}

/** The order that binds CPU and GPU together (design §4): GPUs first, then a quote over everything. */
export async function bindEvidence(
  tee: Evidence['tee'],
  { gpuNonce: nonce, reportData: over }: EvidenceBinding,
  { collectGpus, quoteOver }: EvidenceSources,
): Promise<BoundEvidence> {
  const gpus = await collectGpus(nonce);
  return { tee, gpus, ...(await quoteOver(await over(gpus))) };
}

/** A worker's evidence, as a document. */
export async function assembleEvidence(
  tee: Evidence['tee'],
  nonce: Uint8Array,
  workerKeys: Uint8Array,
  sources: EvidenceSources,
): Promise<Evidence> {
  const { endorsements = async () => NO_ENDORSEMENTS } = sources;
  const binding = {
    gpuNonce: await gpuNonce(nonce, workerKeys),
    reportData: (answered: Evidence['gpus']) => reportData(nonce, workerKeys, answered),
  };
  const { gpus, ...quoted } = await bindEvidence(tee, binding, sources);
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
