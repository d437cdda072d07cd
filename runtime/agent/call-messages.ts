import type { ServerDuplexStream } from '@grpc/grpc-js';
import { CfnError } from '../../proto/index.ts';
import type { InvokeRequest, InvokeResponse } from '../../proto/grpc.ts';

/**
 * The messages of a call, one at a time. Written by hand: a stream's own iterator destroys the stream when an error is put on it, and a
 * call that is destroyed sends no status.
 *
 * `next` throws `CFN_ABORTED` when the call is cancelled.
 */
export function callMessages(call: ServerDuplexStream<InvokeRequest, InvokeResponse>): AsyncIterator<InvokeRequest> {
  let over: 'ended' | 'cancelled' | undefined;
  let wake: (() => void) | undefined;
  const look = (): void => wake?.();
  const end = (how: NonNullable<typeof over>) => () => {
    over ??= how;
    look();
  };
  call.on('readable', look);
  call.once('end', end('ended'));
  call.once('cancelled', end('cancelled'));
  call.once('close', end('cancelled'));
  return {
    async next() {
      for (;;) {
        if (over === 'cancelled') throw new CfnError('CFN_ABORTED', 'the call was cancelled');
        const value = call.read() as InvokeRequest | null;
        if (value !== null) return { done: false, value };
        if (over === 'ended') return { done: true, value: undefined };
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
  };
}
