import { z } from 'zod';
import { EVIDENCE_BYTES_MAX, MANIFEST_BYTES_MAX } from './limits.ts';
import { receiptProofSchema } from './receipt-batch.ts';

/** A receipt with all that it takes to verify it years later, from this one file: the verifier brings its policy. */
export const receiptArchiveSchema = z.strictObject({
  format: z.literal('cfn/receipt-archive/v1'),
  /** JWS */
  receipt: z.string(),
  /** The evidence that the receipt names, exact text; endorsements are in it. */
  evidence: z.string().max(EVIDENCE_BYTES_MAX),
  /** The signed manifest of the function version. */
  manifest: z.string().max(MANIFEST_BYTES_MAX),
  /** Absent: the hour was not sealed. */
  proof: receiptProofSchema.optional(),
});
export type ReceiptArchive = z.infer<typeof receiptArchiveSchema>;
