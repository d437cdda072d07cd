import { CfnError, fromHex, toHex, utf8, verifyBatch, type ReceiptProof, type VerifiedBatch } from '../proto/index.ts';
import { leafHash, rootOfPath } from '../proto/node.ts';

/**
 * Verifies that a receipt is in the batch that a proof holds.
 *
 * @param ledgerKey thumbprint that the operator gave out; `undefined`: whoever signed
 * @throws {CfnError} `CFN_BATCH_INVALID`
 */
export async function verifyProof(
  jws: string,
  id: string,
  proof: ReceiptProof,
  ledgerKey: string | undefined,
): Promise<VerifiedBatch> {
  const verified = await verifyBatch(proof.batch);
  demandSigner(verified, ledgerKey);
  const path = proof.path.map((hash) => fromHex(hash));
  const root = rootOfPath(leafHash(utf8(jws)), proof.index, verified.batch.size, path);
  if (proof.id !== id || root === undefined || toHex(root) !== verified.batch.root)
    throw new CfnError(
      'CFN_BATCH_INVALID',
      `the proof does not lead from this receipt to the root of ${verified.batch.hour}`,
    );
  return verified;
}

/** @throws {CfnError} `CFN_BATCH_INVALID` */
export function demandSigner({ signer, batch }: VerifiedBatch, ledgerKey: string | undefined): void {
  if (ledgerKey !== undefined && signer !== ledgerKey)
    throw new CfnError('CFN_BATCH_INVALID', `the batch of ${batch.hour} is signed by ${signer}, expected ${ledgerKey}`);
}
