export {
  appraiseDocument,
  attestationDocumentSchema,
  fetchAttestation,
  type AppraisedDocument,
  type AppraiseDocumentOptions,
  type AttestationDocument,
  type FetchAttestationOptions,
} from './attestation.ts';
export {
  confidentialFetch,
  type ConfidentialFetch,
  type ConfidentialFetchOptions,
  type ConfidentialResponse,
} from './confidential-fetch.ts';
export type { Hasher } from './hasher.ts';
export type { OpenedResponse } from './open.ts';
export { verifyReceiptAgainst, type ReceiptExpectations, type VerifiedReceipt } from './receipt-check.ts';
export { sealRequest, type Field, type PlainRequest, type SealedExchange, type SealOptions } from './seal.ts';
