import type { VerifiedReceipt } from '../client/index.ts';
import { CfnError, hourOf, toCfnError, verifyReceipt, type Receipt, type SignedManifest } from '../proto/index.ts';
import { LEDGER_FLUSH_MS, LEDGER_QUEUE_MAX } from './limits.ts';
import type { Log } from './log.ts';
import type { AdmittedWorker } from './registry.ts';
import type { LedgerEntry, Store } from './store/index.ts';

/** `collected`: from its worker's memory, because it did not come with its answer, or was not acknowledged in time. */
export type ReceiptOutcome = 'ok' | 'collected' | 'missing' | 'invalid';

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
  /** The receipt of an answer that this gateway carried. */
  record(receipt: string | VerifiedReceipt | undefined, expected: Expected): void;
  /** A receipt that its worker keeps because no gateway has acknowledged it. */
  collect(jws: string, worker: AdmittedWorker): void;
  /** The receipt, durable by the time it is given. */
  receipt(id: string): Promise<string | undefined>;
  /** @throws {CfnError} `CFN_STORE_FAILED` while receipts cannot be written: work that cannot be counted is not taken on. */
  checkWritable(): void;
  /** Resolves when what was taken before is durable, or was tried in vain. */
  flush(): Promise<void>;
}

export function ledger(deps: {
  readonly store: Pick<Store, 'addReceipts' | 'receipt'>;
  readonly now: () => Date;
  readonly log: Log;
  /** The store has these durably: the worker may forget them. */
  readonly acknowledge: (workerId: string, sequences: readonly number[]) => void;
  readonly onWritten: (entries: readonly LedgerEntry[]) => void;
  readonly onOutcome: (outcome: ReceiptOutcome) => void;
  /** Told of each receipt that came with an answer and verified. */
  readonly onReceipt?: (receipt: Receipt) => void;
}): Ledger {
  const verifying = new Set<Promise<void>>();
  /** By their text: while the store is away, a worker tells the same ones again and again. */
  let queue = new Map<string, LedgerEntry>();
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> = Promise.resolve();
  let waiting: Promise<void> | undefined;

  /** @param call what this gateway asked for, where the receipt came with its answer */
  async function take(
    given: string | VerifiedReceipt,
    worker: AdmittedWorker,
    call?: Pick<Expected, 'requestId' | 'version'>,
  ): Promise<void> {
    try {
      const jws = typeof given === 'string' ? given : given.jws;
      const receipt =
        typeof given === 'string' ? await verifyReceipt(jws, worker.keys.receipt.publicKey) : given.receipt;
      if (
        receipt.worker !== worker.workerId ||
        receipt.tee !== worker.tee ||
        (call !== undefined && !isOf(receipt, call))
      ) {
        throw new CfnError('CFN_RECEIPT_INVALID', 'the receipt is for another request, worker or function');
      }
      queue.set(jws, { jws, receipt });
      deps.onOutcome(call === undefined ? 'collected' : 'ok');
      if (call !== undefined) deps.onReceipt?.(receipt);
      timer ??= setTimeout(() => void flush(), LEDGER_FLUSH_MS);
    } catch (cause) {
      deps.onOutcome('invalid');
      const request = call?.requestId ?? '';
      deps.log('receipt.invalid', { request, worker: worker.workerId, code: toCfnError(cause).code });
    }
  }
  function begin(taking: Promise<void>): void {
    const done: Promise<void> = taking.finally(() => verifying.delete(done));
    verifying.add(done);
  }

  async function flush(): Promise<void> {
    await Promise.all(verifying);
    // What an earlier one writes is not durable yet. All who come meanwhile wait for one more.
    waiting ??= writing.then(() => {
      waiting = undefined;
      return (writing = write());
    });
    await waiting;
  }

  async function write(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    if (queue.size === 0) return;
    const taken = queue;
    const batch = [...taken.values()];
    queue = new Map();
    try {
      await deps.store.addReceipts(batch, hourOf(deps.now()));
      deps.onWritten(batch);
      for (const [workerId, entries] of Map.groupBy(batch, ({ receipt }) => receipt.worker)) {
        const sequences = entries.map(({ receipt }) => receipt.sequence);
        deps.acknowledge(workerId, sequences);
      }
    } catch (cause) {
      // Kept for the next attempt: adding is idempotent by request id.
      queue = new Map([...taken, ...queue]);
      timer ??= setTimeout(() => void flush(), 1_000);
      deps.log('receipt.unwritten', { count: queue.size, code: toCfnError(cause).code });
    }
  }

  return {
    record(given, expected) {
      if (given === undefined) {
        deps.onOutcome('missing');
        deps.log('receipt.missing', { request: expected.requestId, worker: expected.worker.workerId });
        return;
      }
      begin(take(given, expected.worker, expected));
    },
    collect(jws, worker) {
      if (queue.has(jws) || queue.size + verifying.size >= LEDGER_QUEUE_MAX) return; // its worker keeps it, and tells it again
      begin(take(jws, worker));
    },
    async receipt(id) {
      await flush();
      return deps.store.receipt(id);
    },
    checkWritable() {
      if (queue.size >= LEDGER_QUEUE_MAX) throw new CfnError('CFN_STORE_FAILED', 'receipts cannot be written');
    },
    flush,
  };
}

/** Of this request, and of the function version that was asked for; a worker that was not handed it knows no name. */
function isOf(
  { id, function: ran, outcome }: Receipt,
  { requestId, version }: Pick<Expected, 'requestId' | 'version'>,
): boolean {
  const { tenant, name } = version.manifest;
  const named = ran.tenant === tenant && ran.name === name;
  const unknown = ran.tenant === '' && ran.name === '' && outcome === 'CFN_FUNCTION_NOT_FOUND';
  return id === requestId && ran.version === version.version && (named || unknown);
}
