import { atob, btoa } from './base64.ts';
import { DOMException } from './dom-exception.ts';
import { fetch as fetchThroughHost } from './fetch.ts';
import { Headers } from './headers.ts';
import { installLazyGlobals } from './lazy.ts';
import { Request, type RequestInit } from './request.ts';
import { Response } from './response.ts';
import { Tensor } from './tensor.ts';
import { clearInterval, clearTimeout, queueMicrotask, setInterval, setTimeout } from './timers.ts';
import { TextDecoder, TextEncoder } from './utf8.ts';
import { asInterface } from './interface.ts';

/** Its code is a part of its own: functions that do not call it do not pay for it. */
function fetch(input: unknown, init?: RequestInit): Promise<Response> {
  return fetchThroughHost(input, init);
}

export function installGlobals(): void {
  const globals = {
    atob,
    btoa,
    clearInterval,
    clearTimeout,
    DOMException,
    fetch,
    Headers,
    queueMicrotask,
    Request,
    Response,
    self: globalThis,
    setInterval,
    setTimeout,
    Tensor,
    TextDecoder,
    TextEncoder,
  };
  for (const [name, value] of Object.entries(globals)) {
    asInterface(name, value);
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true, enumerable: false });
  }
  installLazyGlobals();
}

/** A blocked thread is one that no other invocation of the process can have. */
export function removeBlocking(): void {
  const wait = (): never => {
    throw new TypeError('Atomics.wait cannot be called here');
  };
  Object.defineProperty(Atomics, 'wait', { value: wait, writable: true, configurable: true });
}
