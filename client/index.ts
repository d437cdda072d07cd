export {
  appraiseDocument,
  attestationDocumentSchema,
  fetchAttestation,
  type AppraisedDocument,
  type AppraiseDocumentOptions,
  type AttestationDocument,
  type FetchAttestationOptions,
} from './attestation.ts';
export { confidentialFetch, type ConfidentialFetch, type ConfidentialFetchOptions } from './confidential-fetch.ts';
export type { Confidentiality, ConfidentialResponse } from './confidential-response.ts';
export { parseWorkerPolicy, type AppraisalPolicy, type AttestationResult } from '../attestation/verifier/index.ts';
export { CfnError } from '../proto/index.ts';
export type { Hasher } from './hasher.ts';
export type { OpenedResponse } from './open.ts';
export { verifyReceiptAgainst, type ReceiptExpectations, type VerifiedReceipt } from './receipt-check.ts';
export { sealRequest, type Field, type PlainRequest, type SealedExchange, type SealOptions } from './seal.ts';
