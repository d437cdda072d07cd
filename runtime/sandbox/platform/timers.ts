import { reportError } from './events.ts';
import { host } from './host.ts';
import { isLoaded } from './lazy.ts';

interface Timer {
  readonly callback: (...args: unknown[]) => unknown;
  readonly args: readonly unknown[];
  readonly ms: number;
  readonly repeats: boolean;
}

/** Timers set at once in one invocation. */
const TIMERS_MAX = 4096;
/** HTML: delays are 32-bit. */
const DELAY_MAX = 0x7fff_ffff;

const timers = new Map<number, Timer>();
let lastId = 0;
let started = false;

function add(callback: unknown, ms: unknown, args: readonly unknown[], repeats: boolean): number {
  if (typeof callback !== 'function') throw new TypeError('a timer needs a function');
  if (timers.size >= TIMERS_MAX) throw new RangeError(`more than ${TIMERS_MAX} timers at once`);
  const id = ++lastId;
  const delay = Number(ms);
  const timer: Timer = {
    callback: callback as Timer['callback'],
    args,
    ms: delay >= 0 && delay <= DELAY_MAX ? Math.trunc(delay) : 0,
    repeats,
  };
  timers.set(id, timer);
  if (started) host().startTimer(id, timer.ms);
  return id;
}

export function setTimeout(callback: unknown, ms: unknown = 0, ...args: unknown[]): number {
  return add(callback, ms, args, false);
}
export function setInterval(callback: unknown, ms: unknown = 0, ...args: unknown[]): number {
  return add(callback, Math.max(1, Number(ms) || 0), args, true);
}
export function clearTimeout(id?: unknown): void {
  if (timers.delete(Number(id)) && started) host().stopTimer(Number(id));
}
export const clearInterval = (id?: unknown): void => clearTimeout(id);

/** Timers that were set while the module was evaluated begin with the request: before it, nothing of the function runs. */
export function startTimers(): void {
  started = true;
  for (const [id, timer] of timers) host().startTimer(id, timer.ms);
}

/** Back to the state before a request; nothing is set then. */
export function holdTimers(): void {
  started = false;
}

export function fireTimer(id: number): void {
  const timer = timers.get(id);
  if (timer === undefined) return;
  if (timer.repeats) host().startTimer(id, timer.ms);
  else timers.delete(id);
  try {
    Reflect.apply(timer.callback, globalThis, timer.args);
  } catch (error) {
    report(error);
  }
}

/** Only who listens has the part loaded that reports. */
function report(error: unknown): void {
  if (isLoaded('events') || Reflect.has(globalThis, 'onerror')) reportError(error);
}

export function queueMicrotask(callback: unknown): void {
  if (typeof callback !== 'function') throw new TypeError('queueMicrotask needs a function');
  void Promise.resolve()
    .then(() => void (callback as () => unknown)())
    .then(undefined, report);
}
