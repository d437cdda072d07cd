import { domString } from './dom-string.ts';
/** DOM events without a tree: one target, no capture, no bubbling. */
export class Event {
  readonly type: string;
  readonly cancelable: boolean;
  readonly bubbles: boolean;
  readonly timeStamp = Date.now();
  target: EventTarget | null = null;
  currentTarget: EventTarget | null = null;
  #prevented = false;
  #stopped = false;

  constructor(type: unknown, init: { bubbles?: boolean; cancelable?: boolean } = {}) {
    this.type = domString(type);
    this.bubbles = Boolean(init?.bubbles);
    this.cancelable = Boolean(init?.cancelable);
  }
  get defaultPrevented(): boolean {
    return this.#prevented;
  }
  preventDefault(): void {
    if (this.cancelable) this.#prevented = true;
  }
  stopPropagation(): void {}
  stopImmediatePropagation(): void {
    this.#stopped = true;
  }
  /** @internal */
  static isStopped(this: void, event: Event): boolean {
    return event.#stopped;
  }
}
const { isStopped } = Event;
Reflect.deleteProperty(Event, 'isStopped');

export class CustomEvent extends Event {
  readonly detail: unknown;
  constructor(type: unknown, init: { bubbles?: boolean; cancelable?: boolean; detail?: unknown } = {}) {
    super(type, init);
    this.detail = init?.detail ?? null;
  }
}

type Listener = ((event: Event) => void) | { handleEvent(event: Event): void };
interface Registration {
  readonly type: string;
  readonly listener: Listener;
  readonly once: boolean;
  removed: boolean;
}

export class EventTarget {
  #registrations: Registration[] = [];

  addEventListener(
    type: unknown,
    listener: Listener | null,
    options?: boolean | { once?: boolean; signal?: EventTarget & { aborted: boolean } },
  ): void {
    if (listener === null || listener === undefined) return;
    const name = domString(type);
    const once = typeof options === 'object' && options !== null && Boolean(options.once);
    const signal = typeof options === 'object' && options !== null ? options.signal : undefined;
    if (signal?.aborted) return;
    if (this.#registrations.some((known) => known.type === name && known.listener === listener)) return;
    this.#registrations.push({ type: name, listener, once, removed: false });
    signal?.addEventListener('abort', () => this.removeEventListener(name, listener), { once: true });
  }
  removeEventListener(type: unknown, listener: Listener | null): void {
    const name = domString(type);
    this.#registrations = this.#registrations.filter((known) => {
      const match = known.type === name && known.listener === listener;
      if (match) known.removed = true;
      return !match;
    });
  }
  dispatchEvent(event: Event): boolean {
    if (!(event instanceof Event)) throw new TypeError('dispatchEvent needs an Event');
    event.target = event.currentTarget = this;
    for (const known of this.#registrations.slice()) {
      if (known.type !== event.type || known.removed) continue;
      if (known.once) this.removeEventListener(known.type, known.listener);
      try {
        if (typeof known.listener === 'function') known.listener.call(this, event);
        else known.listener.handleEvent(event);
      } catch (error) {
        void Promise.reject(error); // reported, not thrown to the dispatcher
      }
      if (isStopped(event)) break;
    }
    event.currentTarget = null;
    return !event.defaultPrevented;
  }
}
