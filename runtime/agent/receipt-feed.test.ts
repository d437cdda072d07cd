import { EventEmitter, getEventListeners } from 'node:events';
import type { ServerDuplexStream } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import type { OutstandingReceipts, ReceiptAcknowledgement } from '../../proto/grpc.ts';
import { serveReceipts } from './receipt-feed.ts';
import type { Outstanding, ReceiptBook } from './receipts.ts';

/** A gateway's stream, with what was told on it. */
class Stream extends EventEmitter {
  readonly told: string[] = [];
  isEnded = false;
  write({ receipts }: OutstandingReceipts): boolean {
    this.told.push(...(receipts ?? []));
    return true;
  }
  end(): void {
    this.isEnded = true;
  }
}
function serve(kept: Map<number, Outstanding>, stopping: AbortSignal): { stream: Stream; served: Promise<void> } {
  const stream = new Stream();
  const call = stream as unknown as ServerDuplexStream<ReceiptAcknowledgement, OutstandingReceipts>;
  const book: Pick<ReceiptBook, 'outstanding' | 'acknowledge'> = {
    outstanding: () => kept.values(),
    acknowledge: (sequences) => sequences.forEach((sequence) => kept.delete(sequence)),
  };
  return { stream, served: serveReceipts(call, book as ReceiptBook, () => performance.now(), stopping) };
}

test('a new stream is told all at once; a gateway that goes leaves nothing behind', async () => {
  const stopping = new AbortController();
  const kept = new Map([0, 1].map((sequence) => [sequence, { sequence, jws: `r${sequence}`, signedAtMs: 0 }]));
  for (let i = 0; i < 5; i++) {
    const { stream, served } = serve(kept, stopping.signal);
    expect(stream.told).toEqual(['r0', 'r1']);
    stream.emit('cancelled');
    await served;
    expect(stream.isEnded).toBe(true);
  }
  expect(getEventListeners(stopping.signal, 'abort')).toEqual([]);
});

test('what one gateway acknowledged is not told to another; a worker that stops ends its streams', async () => {
  const stopping = new AbortController();
  const kept = new Map([0, 1].map((sequence) => [sequence, { sequence, jws: `r${sequence}`, signedAtMs: 0 }]));
  const first = serve(kept, stopping.signal);
  first.stream.emit('data', { sequences: [0] });
  const second = serve(kept, stopping.signal);
  expect(second.stream.told).toEqual(['r1']);
  stopping.abort();
  await Promise.all([first.served, second.served]);
});
