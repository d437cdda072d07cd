import { status } from '@grpc/grpc-js';
import type { OutstandingReceipts } from '../proto/grpc.ts';
import { RECEIPT_FEED_RETRY_MS } from './limits.ts';
import type { AdmittedWorker } from './registry.ts';
import type { ReceiptCall, WorkerConnection } from './worker-connection.ts';

type Connection = Pick<WorkerConnection, 'receipts'>;

/**
 * The streams on which workers tell receipts that no gateway has acknowledged, and are told which ones a ledger has durably. One for each
 * connection to an admitted worker, opened again when it breaks off.
 */
export interface ReceiptFeeds {
  /** The worker was admitted, or again, on this connection. */
  follow(worker: AdmittedWorker, connection: Connection): void;
  leave(workerId: string): void;
  acknowledge(workerId: string, sequences: readonly number[]): void;
}

interface Feed {
  worker: AdmittedWorker;
  readonly connection: Connection;
  call: ReceiptCall | undefined;
  retry: NodeJS.Timeout | undefined;
}

export function receiptFeeds(collect: (jws: string, worker: AdmittedWorker) => void): ReceiptFeeds {
  const feeds = new Map<string, Feed>();

  function open(feed: Feed): void {
    let call: ReceiptCall;
    try {
      call = feed.connection.receipts();
    } catch {
      return; // the session is over; the worker is admitted again on another one
    }
    feed.call = call;
    call.on('data', ({ receipts }: OutstandingReceipts) => {
      for (const jws of receipts ?? []) collect(jws, feed.worker);
    });
    const again = (cause?: { code?: number }): void => {
      if (feed.call !== call) return;
      feed.call = undefined;
      if (cause?.code === status.UNIMPLEMENTED) return; // a worker of before: its receipts come with the answers alone
      feed.retry = setTimeout(() => open(feed), RECEIPT_FEED_RETRY_MS);
      feed.retry.unref();
    };
    call.on('error', again);
    call.on('end', () => again());
  }
  function close(feed: Feed): void {
    const { call } = feed;
    feed.call = undefined;
    clearTimeout(feed.retry);
    call?.cancel();
  }
  return {
    follow(worker, connection) {
      const known = feeds.get(worker.workerId);
      if (known?.connection === connection) {
        known.worker = worker;
        return;
      }
      if (known !== undefined) close(known);
      const feed: Feed = { worker, connection, call: undefined, retry: undefined };
      feeds.set(worker.workerId, feed);
      open(feed);
    },
    leave(workerId) {
      const feed = feeds.get(workerId);
      feeds.delete(workerId);
      if (feed !== undefined) close(feed);
    },
    acknowledge: (workerId, sequences) => void feeds.get(workerId)?.call?.write({ sequences: [...sequences] }),
  };
}
