import { dispatchTrusted, Event, EventTarget } from './events.ts';
import { domString } from './dom-string.ts';
import { structuredClone } from './structured-clone.ts';
import { setTimeout } from './timers.ts';
import { dictionaryOf, needArguments } from './web-idl.ts';

/** HTML §9.4, within one isolate: there is nobody else to talk to. */

export class MessageEvent extends Event {
  readonly #init: Record<string, unknown>;
  constructor(type: unknown, init: unknown = {}) {
    needArguments(arguments.length, 1, 'MessageEvent');
    super(type, init);
    this.#init = { ...dictionaryOf(init) };
  }
  get data(): unknown {
    return this.#init['data'] ?? null;
  }
  get origin(): string {
    return domString(this.#init['origin'] ?? '');
  }
  get lastEventId(): string {
    return domString(this.#init['lastEventId'] ?? '');
  }
  get source(): unknown {
    return this.#init['source'] ?? null;
  }
  get ports(): readonly unknown[] {
    return Object.freeze([...((this.#init['ports'] as Iterable<unknown> | undefined) ?? [])]);
  }
}

/** Marks constructor calls of our own; nobody outside has it. */
const OURS = Object.freeze({});
/** Messages that wait in a port that was not started. */
const WAITING_MAX = 1024;
let connect!: (a: MessagePort, b: MessagePort) => void;

export class MessagePort extends EventTarget {
  #other: MessagePort | undefined;
  #waiting: unknown[] = [];
  #started = false;
  #closed = false;
  #handler: ((event: Event) => unknown) | null = null;
  #listening = false;

  static {
    connect = (a, b) => {
      a.#other = b;
      b.#other = a;
    };
  }
  constructor(...incoming: readonly unknown[]) {
    if (incoming[0] !== OURS) throw new TypeError('Illegal constructor');
    super();
  }
  postMessage(message: unknown, ...rest: readonly unknown[]): void {
    needArguments(arguments.length, 1, 'postMessage');
    const options = Array.isArray(rest[0]) ? { transfer: rest[0] } : dictionaryOf(rest[0]);
    const data = structuredClone(message, options);
    const other = this.#other;
    if (other === undefined || other.#closed) return;
    if (other.#waiting.length >= WAITING_MAX) throw new RangeError(`more than ${WAITING_MAX} messages wait`);
    other.#waiting.push(data);
    other.#deliver();
  }
  #deliver(): void {
    if (!this.#started) return;
    for (const data of this.#waiting.splice(0))
      setTimeout(() => {
        if (!this.#closed) dispatchTrusted(this, new MessageEvent('message', { data }));
      }, 0);
  }
  start(): void {
    this.#started = true;
    this.#deliver();
  }
  close(): void {
    this.#closed = true;
    if (this.#other !== undefined) this.#other.#closed = true;
  }
  get onmessage(): ((event: Event) => unknown) | null {
    return this.#handler;
  }
  set onmessage(handler: ((event: Event) => unknown) | null) {
    this.#handler = typeof handler === 'function' ? handler : null;
    if (!this.#listening) this.addEventListener('message', (event: Event) => this.#handler?.call(this, event));
    this.#listening = true;
    this.start();
  }
}

export class MessageChannel {
  readonly #ports = [new MessagePort(OURS), new MessagePort(OURS)] as const;
  constructor() {
    connect(...this.#ports);
  }
  get port1(): MessagePort {
    return this.#ports[0];
  }
  get port2(): MessagePort {
    return this.#ports[1];
  }
}
