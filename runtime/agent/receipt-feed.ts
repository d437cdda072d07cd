import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { ReceiptAcknowledgement, OutstandingReceipts } from '../../proto/grpc.ts';
import type { ReceiptBook } from './receipts.ts';

type Call = ServerDuplexStream<ReceiptAcknowledgement, OutstandingReceipts>;

/** How long the gateway that carried the answer has for its acknowledgement, before every gateway is told, in ms; then so again. */
const RESEND_MS = 2_000;
const BATCH_MAX = 100;

/**
 * Tells one gateway what no gateway has acknowledged: all of it at once, when the stream is new, and again for as long as nobody has.
 * The usual receipt goes with its answer, is acknowledged here, and never told here.
 */
export async function serveReceipts(
  call: Call,
  book: ReceiptBook,
  nowMs: () => number,
  stopping: AbortSignal,
): Promise<void> {
  const over = new AbortController();
  const stop = (): void => over.abort();
  stopping.addEventListener('abort', stop, { once: true });
  for (const event of ['cancelled', 'close', 'error', 'end']) call.once(event, stop);
  call.on('data', ({ sequences }: ReceiptAcknowledgement) => book.acknowledge(sequences ?? []));
  const told = new Map<number, number>();
  for (let isNew = true; !over.signal.aborted && !stopping.aborted; isNew = false) {
    const due = [...book.outstanding()].filter(({ sequence, signedAtMs }) =>
      isNew ? true : nowMs() - Math.max(signedAtMs, told.get(sequence) ?? 0) >= RESEND_MS,
    );
    for (let at = 0; at < due.length && !over.signal.aborted; at += BATCH_MAX) {
      const batch = due.slice(at, at + BATCH_MAX);
      for (const { sequence } of batch) told.set(sequence, nowMs());
      if (!call.write({ receipts: batch.map(({ jws }) => jws) }))
        await once(call, 'drain', { signal: over.signal }).catch(() => undefined);
    }
    const outstanding = new Set([...book.outstanding()].map(({ sequence }) => sequence));
    for (const sequence of told.keys()) if (!outstanding.has(sequence)) told.delete(sequence);
    await sleep(RESEND_MS / 2, undefined, { signal: over.signal, ref: false }).catch(() => undefined);
  }
  stopping.removeEventListener('abort', stop); // it outlives many streams
  call.end();
}
