import { CfnError, verifyReceipt, type Receipt } from '../proto/index.ts';

export interface VerifiedReceipt {
  /** As signed; keep this one. */
  readonly jws: string;
  readonly receipt: Receipt;
}

/** What a receipt has to agree with. Members left out are not compared. */
export interface ReceiptExpectations {
  readonly jws: string;
  /** From an appraised worker keys document; only `receipt.publicKey` is used. */
  readonly workerKeys: { readonly receipt: { readonly publicKey: string } };
  readonly workerId?: string | undefined;
  /** Function version, 64 hexadecimal digits. */
  readonly version?: string | undefined;
  readonly tee?: Receipt['tee'] | undefined;
  /** Sealed bytes as the client sent and got them. */
  readonly request?: Receipt['request'] | undefined;
  readonly response?: Receipt['response'] | undefined;
}

/**
 * Verifies a receipt's signature by the attested worker, and that it speaks of this exchange.
 *
 * @throws {CfnError} `CFN_RECEIPT_INVALID`, which names the claims that differ
 */
export async function verifyReceiptAgainst({
  jws,
  workerKeys,
  ...expected
}: ReceiptExpectations): Promise<VerifiedReceipt> {
  const receipt = await verifyReceipt(jws, workerKeys.receipt.publicKey);
  const compared: [claim: string, wanted: string | number | undefined, got: string | number][] = [
    ['worker', expected.workerId, receipt.worker],
    ['function.version', expected.version, receipt.function.version],
    ['tee', expected.tee, receipt.tee],
    ['request.digest', expected.request?.digest, receipt.request.digest],
    ['request.bytes', expected.request?.bytes, receipt.request.bytes],
    ['response.digest', expected.response?.digest, receipt.response.digest],
    ['response.bytes', expected.response?.bytes, receipt.response.bytes],
    ['response.status', expected.response?.status, receipt.response.status],
  ];
  const different = compared.filter(([, wanted, got]) => wanted !== undefined && wanted !== got);
  if (different.length > 0) {
    throw new CfnError(
      'CFN_RECEIPT_INVALID',
      different.map(([claim, wanted, got]) => `${claim} is ${got}, expected ${wanted}`).join('; '),
    );
  }
  return { jws, receipt };
}
