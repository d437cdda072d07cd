export { appraise, type AppraiseOptions, type AttestationResult } from './appraise.ts';
export type { Claims } from './claims.ts';
export { parsePolicy, policyDigest, type AppraisalPolicy } from './policy.ts';
