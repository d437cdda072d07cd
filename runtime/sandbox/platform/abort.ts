import { DOMException } from './dom-exception.ts';
import { dispatchTrusted, Event, EventTarget } from './events.ts';
import { setTimeout } from './timers.ts';
import { enforceRange, needArguments, sequenceOf } from './web-idl.ts';

let abortSignal!: (signal: AbortSignal, reason: unknown) => void;
let newSignal!: () => AbortSignal;
/** Makes `result` abort when `sources` do; signals that themselves follow others are looked through (DOM §3.2). */
let follow!: (result: AbortSignal, sources: readonly AbortSignal[]) => void;
let isAbortSignal!: (value: unknown) => value is AbortSignal;
let minting = false;

export class AbortSignal extends EventTarget {
  #aborted = false;
  #reason: unknown = undefined;
  #handler: ((event: Event) => unknown) | null = null;
  #listening = false;
  #dependent = false;
  readonly #sources = new Set<AbortSignal>();
  readonly #followers = new Set<AbortSignal>();

  static {
    isAbortSignal = (value): value is AbortSignal => typeof value === 'object' && value !== null && #aborted in value;
    newSignal = () => {
      minting = true;
      return new AbortSignal();
    };
    abortSignal = (signal, reason) => {
      if (signal.#aborted) return;
      const why = reason === undefined ? new DOMException('the operation was aborted', 'AbortError') : reason;
      const all = [signal, ...[...signal.#followers].filter((follower) => !follower.#aborted)];
      for (const each of all) {
        each.#aborted = true;
        each.#reason = why;
      }
      for (const each of all) dispatchTrusted(each, new Event('abort'));
    };
    follow = (result, sources) => {
      const aborted = sources.find((source) => source.#aborted);
      if (aborted !== undefined) {
        result.#aborted = true;
        result.#reason = aborted.#reason;
        return;
      }
      result.#dependent = true;
      for (const source of sources)
        for (const origin of source.#dependent ? source.#sources : [source]) {
          result.#sources.add(origin);
          origin.#followers.add(result);
        }
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
  get onabort(): ((event: Event) => unknown) | null {
    return this.#handler;
  }
  set onabort(handler: ((event: Event) => unknown) | null) {
    this.#handler = typeof handler === 'function' ? handler : null;
    if (this.#listening) return;
    this.#listening = true; // keeps its place among the listeners, whatever comes after
    this.addEventListener('abort', (event: Event) => this.#handler?.call(this, event));
  }
  static abort(...given: readonly unknown[]): AbortSignal {
    const signal = newSignal();
    abortSignal(signal, given[0]);
    return signal;
  }
  static timeout(ms: unknown): AbortSignal {
    needArguments(arguments.length, 1, 'timeout');
    const delay = enforceRange(ms, Number.MAX_SAFE_INTEGER, 'the time');
    const signal = newSignal();
    setTimeout(() => abortSignal(signal, new DOMException('the operation timed out', 'TimeoutError')), delay);
    return signal;
  }
  static any(signals: unknown): AbortSignal {
    needArguments(arguments.length, 1, 'any');
    const sources = sequenceOf(signals, 'the signals');
    if (!sources.every(isAbortSignal)) throw new TypeError('one of the signals is not an AbortSignal');
    const result = newSignal();
    follow(result, sources);
    return result;
  }
}

export class AbortController {
  readonly #signal = newSignal();
  get signal(): AbortSignal {
    return this.#signal;
  }
  abort(...given: readonly unknown[]): void {
    abortSignal(this.#signal, given[0]);
  }
}
