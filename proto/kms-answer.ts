import { createHmac } from 'node:crypto';
import { equalBytes, toBase64url, utf8 } from './bytes.ts';
import { frame } from './hash.ts';

/**
 * How a worker knows the KMS that the owner chose: it seals a fresh key to the public key in the model's manifest, and the KMS proves
 * each answer with it. Otherwise whoever carries the messages could go on renewing a lease that the owner revoked.
 */
export const ANSWER_KEY_BYTES = 32;
/** Header of an answer with its proof. */
export const PROOF_HEADER = 'cfn-proof';

/** HPKE info of an answer key: of one challenge, and so of one call. */
export const answerKeyInfo = (challenge: string): Uint8Array<ArrayBuffer> =>
  frame('cfn/answer-key/v1', utf8(challenge));

/** HMAC-SHA-256 over the exact text of an answer, base64url. */
export function proveAnswer(answerKey: Uint8Array, text: string): string {
  return toBase64url(
    createHmac('sha256', answerKey)
      .update(frame('cfn/kms-answer/v1', utf8(text)))
      .digest(),
  );
}

export function isProven(answerKey: Uint8Array, text: string, proof: string): boolean {
  return equalBytes(utf8(proveAnswer(answerKey, text)), utf8(proof));
}
