import type { CfnError } from '../proto/index.ts';
import type { InvokeResponse, InvokeTimings } from '../proto/grpc.ts';
import { fromGrpcError } from './grpc-error.ts';
import type { InvokeCall } from './worker-connection.ts';
import { carriedBody } from './young-buffers.ts';

/** Bytes of a response that wait for the reader before the worker is slowed down. */
const WAITING_BYTES_MAX = 1024 * 1024;
/** Small pieces are sent together: each message costs a frame and a turn at both ends. */
const MESSAGE_BYTES = 64 * 1024;

/** Sends sealed bytes on a call and ends its sending side. Stops early, without an error, when the call is over. */
export async function sendSealed(call: InvokeCall, body: AsyncIterable<Uint8Array>): Promise<void> {
  let parts: Uint8Array[] = [];
  let bytes = 0;
  let over = false;
  const onOver = (): void => void (over = true);
  for (const event of ['error', 'end', 'close']) call.once(event, onOver);
  const send = async (): Promise<void> => {
    if (bytes === 0 || over) return;
    const [only] = parts;
    const fits = call.write({ chunk: parts.length === 1 && only !== undefined ? only : Buffer.concat(parts, bytes) });
    carriedBody(bytes);
    parts = [];
    bytes = 0;
    if (!fits) await drained(call);
  };
  const iterator = body[Symbol.asyncIterator]();
  for (let next = iterator.next(); ; next = iterator.next()) {
    // What is there is sent together; it does not wait for a caller who takes a pause.
    if (bytes > 0 && (await Promise.race([next, turn()])) === 'turn') await send();
    const { done, value: part } = await next;
    if (over) return void (await iterator.return?.());
    if (done === true) break;
    parts.push(part);
    bytes += part.length;
    if (bytes >= MESSAGE_BYTES) await send();
  }
  await send();
  call.end();
}

const turn = (): Promise<'turn'> => new Promise((resolve) => setImmediate(() => resolve('turn')));

function drained(call: InvokeCall): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      for (const event of ['drain', 'error', 'end', 'close']) call.off(event, done);
      resolve();
    };
    for (const event of ['drain', 'error', 'end', 'close']) call.once(event, done);
  });
}

export interface SealedResponse {
  /**
   * The sealed bytes that a call answers with. Written by hand: a stream's own iterator destroys the stream when its reader stops
   * after the final chunk, and the worker would see a cancelled call. Throws a {@link CfnError} when the call fails or is stopped.
   */
  readonly bytes: AsyncIterable<Uint8Array>;
  /** What the worker sent for the ledger, unverified. */
  receipt(): string | undefined;
  /** What it said of its steps, unverified. */
  timings(): InvokeTimings | undefined;
  /** Resolves when the worker has ended the call, or it broke off. */
  readonly ended: Promise<void>;
  /** Nobody wants the rest; the reason is what a reader of `bytes` is told. */
  stop(reason: CfnError): void;
  /** The worker has ended the call. */
  over(): boolean;
}

export function receiveSealed(call: InvokeCall): SealedResponse {
  const queue: Uint8Array[] = [];
  let queued = 0;
  let over: 'ended' | CfnError | undefined;
  let stopped: CfnError | undefined;
  let receipt: string | undefined;
  let timings: InvokeTimings | undefined;
  const ended = Promise.withResolvers<void>();
  let discarding = false;
  let wake: (() => void) | undefined;
  const notify = (): void => {
    const waiting = wake;
    wake = undefined;
    waiting?.();
  };
  call.on('data', ({ chunk, end }: InvokeResponse) => {
    if (end !== undefined) ({ receipt, timings } = end);
    if (chunk === undefined || chunk.length === 0 || discarding) return;
    carriedBody(chunk.length);
    queue.push(chunk);
    queued += chunk.length;
    if (queued > WAITING_BYTES_MAX) call.pause();
    notify();
  });
  call.on('error', (cause) => {
    over ??= fromGrpcError(cause);
    ended.resolve();
    notify();
  });
  call.on('end', () => {
    over ??= 'ended';
    ended.resolve();
    notify();
  });

  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      for (;;) {
        if (stopped !== undefined) throw stopped;
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
  return {
    bytes: { [Symbol.asyncIterator]: () => iterator },
    receipt: () => receipt,
    timings: () => timings,
    ended: ended.promise,
    stop(reason) {
      stopped ??= reason;
      notify();
    },
    over: () => over !== undefined,
  };
}
