export { appraise, AppraisalRefused, type AppraiseOptions, type AttestationResult, type Claims } from './appraise.ts';
export { appraiseClient, type ClientOptions, type ClientResult } from './appraise-client.ts';
export type { BindingLevel } from './binding.ts';
export type { Finding } from './findings.ts';
export {
  appraiseInputs,
  type InputsAppraisal,
  type InputsClaims,
  type InputsOptions,
} from './inputs/appraise-inputs.ts';
export { gather, type Gathered } from './inputs/gather.ts';
export { parsePolicy, parseWorkerPolicy, policyDigest, type AppraisalPolicy } from './policy/policy.ts';
export { appraisalEar, openResultSigner, type ResultSigner } from './tokens/appraisal-ear.ts';
export { appraiseEar } from './tokens/appraise-ear.ts';
