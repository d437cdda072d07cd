import { DOMException } from './dom-exception.ts';
import { Event, EventTarget } from './events.ts';
import { setTimeout } from './timers.ts';

let abortSignal!: (signal: AbortSignal, reason: unknown) => void;
let newSignal!: () => AbortSignal;
let minting = false;

export class AbortSignal extends EventTarget {
  #aborted = false;
  #reason: unknown = undefined;
  #handler: ((event: Event) => void) | null = null;

  static {
    newSignal = () => {
      minting = true;
      return new AbortSignal();
    };
    abortSignal = (signal, reason) => {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason === undefined ? new DOMException('the operation was aborted', 'AbortError') : reason;
      signal.dispatchEvent(new Event('abort'));
    };
  }
  constructor() {
    if (!minting) throw new TypeError('Illegal constructor');
    minting = false;
    super();
  }
  get aborted(): boolean {
    return this.#aborted;
  }
  get reason(): unknown {
    return this.#reason;
  }
  throwIfAborted(): void {
    if (this.#aborted) throw this.#reason;
  }
  get onabort(): ((event: Event) => void) | null {
    return this.#handler;
  }
  set onabort(handler: ((event: Event) => void) | null) {
    if (this.#handler !== null) this.removeEventListener('abort', this.#handler);
    this.#handler = typeof handler === 'function' ? handler : null;
    if (this.#handler !== null) this.addEventListener('abort', this.#handler);
  }
  get [Symbol.toStringTag](): string {
    return 'AbortSignal';
  }
  static abort(reason?: unknown): AbortSignal {
    const signal = newSignal();
    abortSignal(signal, reason);
    return signal;
  }
  static timeout(ms: number): AbortSignal {
    const signal = newSignal();
    setTimeout(() => abortSignal(signal, new DOMException('the operation timed out', 'TimeoutError')), ms);
    return signal;
  }
  static any(signals: Iterable<AbortSignal>): AbortSignal {
    const result = newSignal();
    for (const signal of signals) {
      if (signal.aborted) {
        abortSignal(result, signal.reason);
        break;
      }
      signal.addEventListener('abort', () => abortSignal(result, signal.reason), { once: true });
    }
    return result;
  }
}

export class AbortController {
  readonly #signal = newSignal();
  get signal(): AbortSignal {
    return this.#signal;
  }
  abort(reason?: unknown): void {
    abortSignal(this.#signal, reason);
  }
  get [Symbol.toStringTag](): string {
    return 'AbortController';
  }
}
