import type { VerifiedReceipt } from '../client/index.ts';
import { CfnError, toCfnError, verifyReceipt, type Receipt, type SignedManifest } from '../proto/index.ts';
import { LEDGER_FLUSH_MS, LEDGER_QUEUE_MAX } from './limits.ts';
import type { Log } from './log.ts';
import type { AdmittedWorker } from './registry.ts';
import type { LedgerEntry, Store } from './store/index.ts';

/** What a receipt must agree with. */
export interface Expected {
  readonly requestId: string;
  readonly worker: AdmittedWorker;
  readonly version: SignedManifest;
}

/**
 * The way of receipts into the store. They are verified and written beside the answer, not before it: the caller holds the same
 * receipt inside the sealed answer, and waits for no fsync. Receipts of {@link LEDGER_FLUSH_MS} share one transaction.
 */
export interface Ledger {
  record(receipt: string | VerifiedReceipt | undefined, expected: Expected): void;
  /** The receipt, durable by the time it is given. */
  receipt(id: string): Promise<string | undefined>;
  /** @throws {CfnError} `CFN_STORE_FAILED` while receipts cannot be written: work that cannot be counted is not taken on. */
  checkWritable(): void;
  flush(): Promise<void>;
}

export function ledger(deps: {
  readonly store: Pick<Store, 'addReceipts' | 'receipt'>;
  readonly log: Log;
  readonly onOutcome: (outcome: 'ok' | 'missing' | 'invalid') => void;
  /** Told of each receipt that verified. */
  readonly onReceipt?: (receipt: Receipt) => void;
}): Ledger {
  const verifying = new Set<Promise<void>>();
  let queue: LedgerEntry[] = [];
  let timer: NodeJS.Timeout | undefined;

  async function verify(given: string | VerifiedReceipt, { requestId, worker, version }: Expected): Promise<void> {
    try {
      const jws = typeof given === 'string' ? given : given.jws;
      const receipt =
        typeof given === 'string' ? await verifyReceipt(jws, worker.keys.receipt.publicKey) : given.receipt;
      const { tenant, name } = version.manifest;
      const ran = receipt.function;
      if (
        receipt.id !== requestId ||
        receipt.worker !== worker.workerId ||
        receipt.tee !== worker.tee ||
        ran.version !== version.version ||
        ran.tenant !== tenant ||
        ran.name !== name
      ) {
        throw new CfnError('CFN_RECEIPT_INVALID', 'the receipt is for another request, worker or function');
      }
      queue.push({ jws, receipt });
      deps.onOutcome('ok');
      deps.onReceipt?.(receipt);
      timer ??= setTimeout(() => void flush(), LEDGER_FLUSH_MS);
    } catch (cause) {
      deps.onOutcome('invalid');
      deps.log('receipt.invalid', { request: requestId, worker: worker.workerId, code: toCfnError(cause).code });
    }
  }

  async function flush(): Promise<void> {
    await Promise.all(verifying);
    clearTimeout(timer);
    timer = undefined;
    if (queue.length === 0) return;
    const batch = queue;
    queue = [];
    try {
      await deps.store.addReceipts(batch);
    } catch (cause) {
      // Kept for the next attempt: adding is idempotent by request id.
      queue = [...batch, ...queue];
      timer ??= setTimeout(() => void flush(), 1_000);
      deps.log('receipt.unwritten', { count: queue.length, code: toCfnError(cause).code });
    }
  }

  return {
    record(given, expected) {
      if (given === undefined) {
        deps.onOutcome('missing');
        deps.log('receipt.missing', { request: expected.requestId, worker: expected.worker.workerId });
        return;
      }
      const done: Promise<void> = verify(given, expected).finally(() => verifying.delete(done));
      verifying.add(done);
    },
    async receipt(id) {
      await flush();
      return deps.store.receipt(id);
    },
    checkWritable() {
      if (queue.length >= LEDGER_QUEUE_MAX) throw new CfnError('CFN_STORE_FAILED', 'receipts cannot be written');
    },
    flush,
  };
}
