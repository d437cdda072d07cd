import { baseUrl } from './base-url.ts';
import { elapsedMs } from './clock.ts';
import { DOMException } from './dom-exception.ts';
import { domString } from './dom-string.ts';
import { dictionaryOf, isObject, needArguments } from './web-idl.ts';

/** DOM §2 without a tree: the path of an event is its target. */

const [NONE, CAPTURING_PHASE, AT_TARGET, BUBBLING_PHASE] = [0, 1, 2, 3];

let trust!: (event: Event) => Event;
/** Dispatches one of our own events: `isTrusted` says so. */
export const dispatchTrusted = (target: EventTarget, event: Event): boolean => dispatch(target, trust(event), target);

let slotsOf!: (event: Event) => EventSlots;
interface EventSlots {
  type: string;
  bubbles: boolean;
  cancelable: boolean;
  readonly composed: boolean;
  target: object | null;
  currentTarget: object | null;
  phase: number;
  trusted: boolean;
  dispatching: boolean;
  stopped: boolean;
  stoppedAtOnce: boolean;
  canceled: boolean;
  inPassive: boolean;
  readonly timeStamp: number;
}

export class Event {
  readonly #slots: EventSlots;

  static {
    slotsOf = (event) => event.#slots;
    trust = (event) => {
      event.#slots.trusted = true;
      return event;
    };
  }
  constructor(type: unknown, init: unknown = {}) {
    needArguments(arguments.length, 1, 'Event');
    const text = domString(type);
    const given = dictionaryOf(init);
    this.#slots = {
      type: text,
      bubbles: Boolean(given['bubbles']),
      cancelable: Boolean(given['cancelable']),
      composed: Boolean(given['composed']),
      target: null,
      currentTarget: null,
      phase: NONE,
      trusted: false,
      dispatching: false,
      stopped: false,
      stoppedAtOnce: false,
      canceled: false,
      inPassive: false,
      timeStamp: elapsedMs(),
    };
    Object.defineProperty(this, 'isTrusted', { get: isTrusted, enumerable: true });
  }
  declare readonly isTrusted: boolean;
  get type(): string {
    return this.#slots.type;
  }
  get target(): object | null {
    return this.#slots.target;
  }
  get srcElement(): object | null {
    return this.#slots.target;
  }
  get currentTarget(): object | null {
    return this.#slots.currentTarget;
  }
  composedPath(): object[] {
    const { currentTarget } = this.#slots;
    return currentTarget === null ? [] : [currentTarget];
  }
  get eventPhase(): number {
    return this.#slots.phase;
  }
  stopPropagation(): void {
    this.#slots.stopped = true;
  }
  get cancelBubble(): boolean {
    return this.#slots.stopped;
  }
  set cancelBubble(value: boolean) {
    if (value) this.#slots.stopped = true;
  }
  stopImmediatePropagation(): void {
    this.#slots.stopped = this.#slots.stoppedAtOnce = true;
  }
  get bubbles(): boolean {
    return this.#slots.bubbles;
  }
  get cancelable(): boolean {
    return this.#slots.cancelable;
  }
  get returnValue(): boolean {
    return !this.#slots.canceled;
  }
  set returnValue(value: boolean) {
    if (!value) this.preventDefault();
  }
  preventDefault(): void {
    const slots = this.#slots;
    if (slots.cancelable && !slots.inPassive) slots.canceled = true;
  }
  get defaultPrevented(): boolean {
    return this.#slots.canceled;
  }
  get composed(): boolean {
    return this.#slots.composed;
  }
  get timeStamp(): number {
    return this.#slots.timeStamp;
  }
  initEvent(type: unknown, ...flags: readonly unknown[]): void {
    needArguments(arguments.length, 1, 'initEvent');
    const slots = this.#slots;
    if (slots.dispatching) return;
    const [bubbles, cancelable] = flags;
    const fresh = { stopped: false, stoppedAtOnce: false, canceled: false, trusted: false, target: null };
    Object.assign(slots, fresh, {
      type: domString(type),
      bubbles: Boolean(bubbles),
      cancelable: Boolean(cancelable),
    });
  }
}
/** `[LegacyUnforgeable]`: on each event, one getter for all. */
// oxlint-disable-next-line typescript/unbound-method -- it becomes a getter
const { get: isTrusted } = Object.getOwnPropertyDescriptor(
  {
    get isTrusted(): boolean {
      return slotsOf(this as unknown as Event).trusted;
    },
  },
  'isTrusted',
) as { get(this: unknown): boolean };
for (const [name, value] of Object.entries({ NONE, CAPTURING_PHASE, AT_TARGET, BUBBLING_PHASE }))
  for (const holder of [Event, Event.prototype]) Object.defineProperty(holder, name, { value, enumerable: true });

export class CustomEvent extends Event {
  #detail: unknown;
  constructor(type: unknown, init: unknown = {}) {
    needArguments(arguments.length, 1, 'CustomEvent');
    super(type, init);
    this.#detail = dictionaryOf(init)['detail'] ?? null;
  }
  get detail(): unknown {
    return this.#detail;
  }
  initCustomEvent(type: unknown, ...rest: readonly unknown[]): void {
    needArguments(arguments.length, 1, 'initCustomEvent');
    if (slotsOf(this).dispatching) return;
    this.initEvent(type, rest[0], rest[1]);
    this.#detail = rest[2] ?? null;
  }
}

export class ErrorEvent extends Event {
  readonly #message: string;
  readonly #filename: string;
  readonly #line: number;
  readonly #column: number;
  readonly #error: unknown;
  constructor(type: unknown, init: unknown = {}) {
    needArguments(arguments.length, 1, 'ErrorEvent');
    super(type, init);
    const given = dictionaryOf(init);
    this.#message = given['message'] === undefined ? '' : domString(given['message']);
    this.#filename = given['filename'] === undefined ? '' : domString(given['filename']);
    this.#line = Number(given['lineno'] ?? 0) >>> 0;
    this.#column = Number(given['colno'] ?? 0) >>> 0;
    this.#error = given['error'];
  }
  get message(): string {
    return this.#message;
  }
  get filename(): string {
    return this.#filename;
  }
  get lineno(): number {
    return this.#line;
  }
  get colno(): number {
    return this.#column;
  }
  get error(): unknown {
    return this.#error;
  }
}

export class PromiseRejectionEvent extends Event {
  readonly #promise: object;
  readonly #reason: unknown;
  constructor(type: unknown, init: unknown) {
    needArguments(arguments.length, 2, 'PromiseRejectionEvent');
    super(type, init);
    const { promise, reason } = dictionaryOf(init);
    if (!isObject(promise)) throw new TypeError("'promise' is missing");
    this.#promise = promise;
    this.#reason = reason;
  }
  get promise(): object {
    return this.#promise;
  }
  get reason(): unknown {
    return this.#reason;
  }
}

type Callback = ((event: Event) => unknown) | { handleEvent(event: Event): unknown };
interface Listener {
  readonly type: string;
  readonly callback: Callback;
  readonly capture: boolean;
  readonly once: boolean;
  readonly passive: boolean;
  removed: boolean;
}
/** What a listener's signal has to be able to do; `abort.ts` builds upon this module. */
interface Signal extends EventTarget {
  readonly aborted: boolean;
}

const globalListeners: { list: Listener[] } = { list: [] };
let listenersOf!: (target: unknown) => { list: Listener[] };
let isTarget!: (value: unknown) => value is EventTarget;

export class EventTarget {
  readonly #listeners: { list: Listener[] } = { list: [] };

  static {
    isTarget = (value): value is EventTarget => isObject(value) && #listeners in value;
    // The global object is one, too; Web IDL takes it where there is no `this`.
    listenersOf = (target) => {
      if (target === globalThis || target === undefined || target === null) return globalListeners;
      return (target as EventTarget).#listeners;
    };
  }
  addEventListener(type: unknown, callback: unknown, ...rest: readonly unknown[]): void {
    needArguments(arguments.length, 2, 'addEventListener');
    const listeners = listenersOf(this);
    const options = rest[0];
    const flags = isObject(options) ? dictionaryOf(options) : { capture: options };
    const name = domString(type);
    const [capture, once, passive] = [Boolean(flags['capture']), Boolean(flags['once']), Boolean(flags['passive'])];
    const signal = flags['signal'] as Signal | undefined;
    if (signal !== undefined && !(isTarget(signal) && 'aborted' in signal))
      throw new TypeError('the signal is not an AbortSignal');
    if (callback === null || callback === undefined) return;
    if (!isObject(callback)) throw new TypeError('the listener is not an object');
    if (signal?.aborted) return;
    const same = (known: Listener): boolean =>
      known.type === name && known.callback === callback && known.capture === capture;
    if (listeners.list.some(same)) return;
    const listener: Listener = { type: name, callback: callback as Callback, capture, once, passive, removed: false };
    listeners.list.push(listener);
    signal?.addEventListener('abort', () => remove(listeners, same));
  }
  removeEventListener(type: unknown, callback: unknown, ...rest: readonly unknown[]): void {
    needArguments(arguments.length, 2, 'removeEventListener');
    const listeners = listenersOf(this);
    const options = rest[0];
    const capture = Boolean(isObject(options) ? dictionaryOf(options)['capture'] : options);
    const name = domString(type);
    if (callback !== null && callback !== undefined && !isObject(callback))
      throw new TypeError('the listener is not an object');
    remove(listeners, (known) => known.type === name && known.callback === callback && known.capture === capture);
  }
  dispatchEvent(event: unknown): boolean {
    needArguments(arguments.length, 1, 'dispatchEvent');
    listenersOf(this); // throws for another `this`
    if (!(event instanceof Event)) throw new TypeError('dispatchEvent needs an Event');
    const slots = slotsOf(event);
    if (slots.dispatching) throw new DOMException('the event is being dispatched', 'InvalidStateError');
    slots.trusted = false;
    return dispatch(this, event, (this as unknown) ?? globalThis);
  }
}

function remove(listeners: { list: Listener[] }, matches: (known: Listener) => boolean): void {
  listeners.list = listeners.list.filter((known) => {
    const match = matches(known);
    if (match) known.removed = true;
    return !match;
  });
}

function dispatch(target: EventTarget, event: Event, visible: unknown): boolean {
  const slots = slotsOf(event);
  const listeners = listenersOf(target);
  Object.assign(slots, { dispatching: true, target: visible, currentTarget: visible, phase: AT_TARGET });
  // Capturing listeners come first at the target, too.
  const all = listeners.list.filter((known) => known.type === slots.type);
  for (const listener of [...all.filter(({ capture }) => capture), ...all.filter(({ capture }) => !capture)]) {
    if (slots.stoppedAtOnce) break;
    if (listener.removed || (slots.stopped && !listener.capture && all[0]?.capture === true)) continue;
    if (listener.once) remove(listeners, (known) => known === listener);
    slots.inPassive = listener.passive;
    try {
      const { callback } = listener;
      if (typeof callback === 'function') callback.call(visible, event);
      else {
        const handle: unknown = Reflect.get(callback, 'handleEvent');
        if (typeof handle !== 'function') throw new TypeError('handleEvent is not a function');
        Reflect.apply(handle, callback, [event]);
      }
    } catch (error) {
      reportError(error);
    }
    slots.inPassive = false;
  }
  Object.assign(slots, { dispatching: false, currentTarget: null, phase: NONE, stopped: false, stoppedAtOnce: false });
  return !slots.canceled;
}

let reporting = false;

/** HTML §8.1.4.6: an `error` event at the global object. Nobody else hears of it, for it could hold request data. */
export function reportError(...given: readonly unknown[]): void {
  needArguments(given.length, 1, 'reportError');
  if (reporting) return;
  reporting = true;
  try {
    const [error] = given;
    const message = error instanceof Error ? `Uncaught ${error.name}: ${error.message}` : 'Uncaught exception';
    const event = new ErrorEvent('error', { cancelable: true, message, filename: baseUrl() ?? '', error });
    const { onerror } = globalThis as { onerror?: unknown };
    if (typeof onerror === 'function') {
      try {
        if (Reflect.apply(onerror, globalThis, [message, '', 0, 0, error]) === true) event.preventDefault();
      } catch {
        // nobody is left to be told
      }
    }
    dispatchTrusted(globalThis as unknown as EventTarget, event);
  } finally {
    reporting = false;
  }
}

/** The global object's own. */
// oxlint-disable-next-line typescript/unbound-method -- without `this` they are the global object's
const { addEventListener, removeEventListener, dispatchEvent } = EventTarget.prototype;
export { addEventListener, removeEventListener, dispatchEvent };
