import { createHash, KeyObject, sign } from 'node:crypto';
import { CfnError, signReceipt, type Receipt } from '../../proto/index.ts';

/** Receipts that wait for a gateway to have them durably, and room kept for requests under way: some 15 MB. */
export const OUTSTANDING_MAX = 10_000;

export type Claims = Omit<Receipt, 'sequence' | 'previous'>;

/** A receipt that no gateway has acknowledged. */
export interface Outstanding {
  readonly sequence: number;
  readonly jws: string;
  /** On the clock of the book, ms. */
  readonly signedAtMs: number;
}

/** Room for the receipt of one request. */
export interface ReceiptPlace {
  /** Signs and keeps it; once. Gives the JWS. */
  sign(claims: Claims): Promise<string>;
  isSigned(): boolean;
  /** The request has ended; without a receipt its room is free again. */
  release(): void;
}

/**
 * The receipts of this worker: signed one after another, each naming the one before it, and kept in memory until a gateway says that its
 * ledger has them. They hold no payload.
 */
export interface ReceiptBook {
  /** @throws {CfnError} `CFN_LEDGER_BEHIND` where there is no room: what could not be counted is not begun */
  reserve(): ReceiptPlace;
  /** Oldest first. */
  outstanding(): IterableIterator<Outstanding>;
  /** A gateway has these durably. Numbers that are not outstanding are passed over: another gateway was first. */
  acknowledge(sequences: readonly number[]): void;
  /** Resolves when nothing is outstanding, and after `msMax` at the latest. */
  settled(msMax: number): Promise<void>;
}

/** @param nowMs a clock that nobody sets */
export function receiptBook(key: CryptoKey, nowMs: () => number, outstandingMax = OUTSTANDING_MAX): ReceiptBook {
  // Synchronous: a thread pool costs more than the signature.
  const handle = KeyObject.from(key);
  const signer = (signingInput: Uint8Array): Uint8Array => sign(null, signingInput, handle);
  const kept = new Map<number, Outstanding>();
  const emptied = new Set<() => void>();
  let reserved = 0;
  let next = 0;
  let last: Promise<string> = Promise.resolve('');

  function append(claims: Claims): Promise<string> {
    const mine = last.then(async (previous) => {
      const sequence = next++;
      const jws = await signReceipt({ ...claims, sequence, previous }, signer);
      kept.set(sequence, { sequence, jws, signedAtMs: nowMs() });
      return { jws, digest: createHash('sha256').update(jws).digest('hex') };
    });
    last = mine.then(({ digest }) => digest);
    return mine.then(({ jws }) => jws);
  }
  return {
    reserve() {
      if (kept.size + reserved >= outstandingMax)
        throw new CfnError('CFN_LEDGER_BEHIND', `${kept.size} receipts wait for a gateway to acknowledge them`);
      reserved++;
      let held = true;
      let signed = false;
      const release = (): void => {
        if (held) reserved--;
        held = false;
      };
      return {
        isSigned: () => signed,
        release,
        async sign(claims) {
          signed = true;
          return append(claims).finally(release);
        },
      };
    },
    outstanding: () => kept.values(),
    acknowledge(sequences) {
      for (const sequence of sequences) kept.delete(sequence);
      if (kept.size > 0) return;
      for (const done of emptied) done();
      emptied.clear();
    },
    async settled(msMax) {
      if (kept.size === 0) return;
      await new Promise<void>((resolve) => {
        emptied.add(resolve);
        setTimeout(resolve, msMax).unref();
      });
    },
  };
}
