import { createHash, KeyObject, sign } from 'node:crypto';
import { signReceipt, type Receipt } from '../../proto/index.ts';

/** Signs receipts one after another, each naming the one before it. */
export type ReceiptChain = (claims: Omit<Receipt, 'sequence' | 'previous'>) => Promise<string>;

export function receiptChain(key: CryptoKey): ReceiptChain {
  // Synchronous: a thread pool costs more than the signature.
  const handle = KeyObject.from(key);
  const signer = (signingInput: Uint8Array): Uint8Array => sign(null, signingInput, handle);
  let sequence = 0;
  let last: Promise<string> = Promise.resolve('');
  return (claims) => {
    const mine = last.then(async (previous) => {
      const jws = await signReceipt({ ...claims, sequence: sequence++, previous }, signer);
      return { jws, digest: createHash('sha256').update(jws).digest('hex') };
    });
    last = mine.then(({ digest }) => digest);
    return mine.then(({ jws }) => jws);
  };
}
