import type { ByteSource } from './body.ts';
import { host } from './host.ts';
import { hostError } from './host-error.ts';

const waiting = new Map<number, PromiseWithResolvers<Uint8Array<ArrayBuffer> | undefined>>();

/** A body that the process holds for us, at most a window of it. `call` 0: the request's. */
export function incomingBody(call: number): ByteSource {
  return {
    pull() {
      const asked = Promise.withResolvers<Uint8Array<ArrayBuffer> | undefined>();
      waiting.set(call, asked);
      host().pull(call);
      return asked.promise;
    },
    drop: () => host().drop(call),
  };
}

export function onBody(call: number, bytes: ArrayBuffer): void {
  takeWaiting(call)?.resolve(new Uint8Array(bytes));
}

export function onEnded(call: number, code: string): void {
  if (code === '') takeWaiting(call)?.resolve(undefined);
  else {
    const message = 'the body broke off before its end';
    takeWaiting(call)?.reject(call === 0 ? hostError(code, message) : new TypeError(message));
  }
}

function takeWaiting(call: number): ReturnType<typeof waiting.get> {
  const found = waiting.get(call);
  waiting.delete(call);
  return found;
}
