import { atob, btoa } from './base64.ts';
import { DOMException, QuotaExceededError } from './dom-exception.ts';
import { Headers } from './headers.ts';
import { installLazyGlobals } from './lazy.ts';
import { Request } from './request.ts';
import { Response } from './response.ts';
import { Tensor } from './tensor.ts';
import { clearInterval, clearTimeout, queueMicrotask, setInterval, setTimeout } from './timers.ts';
import { TextDecoder, TextEncoder } from './utf8.ts';
import { asInterface } from './web-idl.ts';

/** Output of functions goes nowhere: it could hold request data. */
const console = Object.fromEntries(
  [
    'assert',
    'clear',
    'count',
    'countReset',
    'debug',
    'dir',
    'dirxml',
    'error',
    'group',
    'groupCollapsed',
    'groupEnd',
    'info',
    'log',
    'table',
    'time',
    'timeEnd',
    'timeLog',
    'trace',
    'warn',
  ].map((name) => [name, () => undefined]),
);

/** Whole milliseconds: a finer clock helps to measure other tenants. Never goes back. */
export function makePerformance(): { readonly timeOrigin: number; now(): number } {
  const timeOrigin = Date.now();
  let latest = 0;
  return { timeOrigin, now: () => (latest = Math.max(latest, Date.now() - timeOrigin)) };
}

async function fetch(): Promise<never> {
  throw new TypeError('network access is not allowed');
}

export function installGlobals(): void {
  const globals = {
    atob,
    btoa,
    clearInterval,
    clearTimeout,
    console,
    DOMException,
    fetch,
    Headers,
    queueMicrotask,
    QuotaExceededError,
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
