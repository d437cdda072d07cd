import { decodeJwt } from 'jose';
import { CfnError, digestSchema, openSealed, verifyStatement } from '../proto/index.ts';
import { answerKeyInfo } from '../proto/node.ts';
import type { KmsDeps } from './deps.ts';

/**
 * Opens the stream of a worker that holds a live lease here: it signs a fresh challenge with the receipt key that its evidence bound.
 *
 * @throws {CfnError} `CFN_CHALLENGE_INVALID`; `CFN_LEASE_ENDED` when it holds none; `CFN_RECEIPT_INVALID`; `CFN_KMS_MISMATCH` when the
 *   answer key was sealed to another KMS; `CFN_BUSY`
 */
export async function openLeaseEvents(statement: string, deps: KmsDeps): Promise<ReadableStream<Uint8Array>> {
  const receiptKey = await deps.store.receiptKeyOf(claimedWorker(statement), deps.now().getTime());
  if (receiptKey === undefined) throw new CfnError('CFN_LEASE_ENDED', 'this worker holds no lease here');
  const by = { receiptKey, worker: claimedWorker(statement) };
  const { challenge, answerKey, worker } = await verifyStatement('cfn-lease-events+jwt', statement, by, deps.now());
  deps.challenges.take(challenge);
  const { privateKey } = deps.sealingKey;
  return deps.feed.open(worker, await openSealed(privateKey, answerKey, answerKeyInfo(challenge), 'CFN_KMS_MISMATCH'));
}

/** Whose key to verify with; nothing else is taken from it unverified. */
function claimedWorker(statement: string): string {
  try {
    return digestSchema.parse(decodeJwt(statement)['worker']);
  } catch (cause) {
    throw new CfnError('CFN_RECEIPT_INVALID', 'the statement names no worker', { cause });
  }
}
