export type { Attester, CollectGpus } from './attester.ts';
export { tdxAttester, type TdxAttesterOptions } from './tdx.ts';
