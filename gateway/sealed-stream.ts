import type { CfnError } from '../proto/index.ts';
import { fromGrpcError } from './grpc-error.ts';
import type { InvokeCall } from './worker-connection.ts';

/** Bytes of a response that wait for the reader before the worker is slowed down. */
const WAITING_BYTES_MAX = 1024 * 1024;
/** Small pieces are sent together: each message costs a frame and a turn at both ends. */
const MESSAGE_BYTES = 64 * 1024;

/** Sends sealed bytes on a call and ends its sending side. Stops early, without an error, when the call is over. */
export async function sendSealed(call: InvokeCall, body: AsyncIterable<Uint8Array>): Promise<void> {
  let parts: Uint8Array[] = [];
  let bytes = 0;
  const send = async (): Promise<void> => {
    if (bytes === 0 || call.destroyed) return;
    const [only] = parts;
    const fits = call.write({ chunk: parts.length === 1 && only !== undefined ? only : Buffer.concat(parts, bytes) });
    parts = [];
    bytes = 0;
    if (!fits) await drained(call);
  };
  for await (const part of body) {
    parts.push(part);
    bytes += part.length;
    if (bytes >= MESSAGE_BYTES) await send();
  }
  await send();
  call.end();
}

function drained(call: InvokeCall): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      for (const event of ['drain', 'error', 'end', 'close']) call.off(event, done);
      resolve();
    };
    for (const event of ['drain', 'error', 'end', 'close']) call.once(event, done);
  });
}

/**
 * The sealed bytes that a call answers with. Written by hand: a stream's own iterator destroys the stream when its reader stops
 * after the final chunk, and the worker would see a cancelled call.
 *
 * The iterator throws a {@link CfnError} when the call fails.
 */
export function receiveSealed(call: InvokeCall): AsyncIterable<Uint8Array> {
  const queue: Uint8Array[] = [];
  let queued = 0;
  let over: 'ended' | CfnError | undefined;
  let discarding = false;
  let wake: (() => void) | undefined;
  const notify = (): void => {
    const waiting = wake;
    wake = undefined;
    waiting?.();
  };
  call.on('data', ({ chunk }: { chunk?: Uint8Array }) => {
    if (chunk === undefined || chunk.length === 0 || discarding) return;
    queue.push(chunk);
    queued += chunk.length;
    if (queued > WAITING_BYTES_MAX) call.pause();
    notify();
  });
  call.on('error', (cause) => {
    over ??= fromGrpcError(cause);
    notify();
  });
  call.on('end', () => {
    over ??= 'ended';
    notify();
  });

  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      for (;;) {
        const value = queue.shift();
        if (value !== undefined) {
          queued -= value.length;
          if (queued <= WAITING_BYTES_MAX / 2 && call.isPaused()) call.resume();
          return { done: false, value };
        }
        if (over === 'ended') return { done: true, value: undefined };
        if (over !== undefined) throw over;
        await new Promise<void>((resolve) => (wake = resolve));
      }
    },
    async return() {
      discarding = true;
      queue.length = 0;
      call.resume();
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
