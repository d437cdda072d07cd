import type { TensorHeader } from '../../ipc/messages.ts';

/**
 * What the process around the isolate does for the platform. Arguments are copied, never shared. Code of the function cannot reach these;
 * the other side checks every argument all the same. A call is on one of the lists below.
 */
export interface HostCalls {
  /** Next bytes of the response, binary HTTP; `status` with the first, 0 after it. */
  respond(bytes: ArrayBuffer, status: number): void;
  /** The invocation is over. `code` is empty for success. */
  finish(code: string): void;
  /**
   * Starts a model run. `layout` has for each tensor: index of the input, index of the type in TENSOR_TYPES, bytes, rank, dims…;
   * `bytes` are the tensors' one after another.
   */
  run(id: number, binding: number, layout: readonly number[], bytes: ArrayBuffer): void;
  startTimer(id: number, ms: number): void;
  stopTimer(id: number): void;
  /** At most 65,536 bytes. Blocks the isolate until the answer is there. */
  random(length: number): ArrayBuffer;
  /** Asks a service of the process (`runtime/sandbox/services/`). The request is copied; its buffers are at most four levels deep. */
  call(id: number, service: string, request: object): void;
  /** The code of a part of the platform. Blocks the isolate until the answer is there. */
  partSource(name: string): string;
  /** Asks for the next bytes of an incoming body: answered by `body` or `ended`. `call` 0: the request. */
  pull(call: number): void;
  /** Nobody will read the rest of an incoming body. */
  drop(call: number): void;
  /** Starts a fetch: binary HTTP, whole, or the head alone where its body is `streamed` by `sendBody`. */
  fetch(call: number, redirect: string, streamed: boolean, request: ArrayBuffer): void;
  sendBody(call: number, bytes: ArrayBuffer, ended: boolean): void;
}

/** Those that belong to an invocation. */
export type InvocationCalls = Omit<HostCalls, 'partSource'>;

/** Calls of the process into the isolate, through the one function that `boot` returns. */
export type HostEvent =
  /** `streamed`: `request` is the head alone; its body is to be pulled. */
  | ['invoke', request: ArrayBuffer, streamed: boolean]
  | ['body', call: number, bytes: ArrayBuffer]
  /** An incoming body is over; `code` is empty where it came whole. */
  | ['ended', call: number, code: string]
  /** So many bytes of an outgoing body have left. */
  | ['credit', call: number, bytes: number]
  /** Status and header section of what was fetched, in binary HTTP. */
  | ['fetched', call: number, head: ArrayBuffer, url: string, redirected: boolean]
  /** The caller has gone: a moment is left. */
  | ['abort']
  | ['timer', id: number]
  | ['result', id: number, tensors: readonly TensorHeader[], bytes: ArrayBuffer]
  | ['answer', id: number, value: unknown]
  /** `name` is `TypeError` or that of a DOMException. */
  | ['refused', id: number, name: string, message: string]
  | ['failed', id: number, code: string, message: string];

/** Calls that the isolate does not wait for. */
export const TOLD = [
  'respond',
  'finish',
  'run',
  'startTimer',
  'stopTimer',
  'call',
  'pull',
  'drop',
  'fetch',
  'sendBody',
] as const;
/** Calls that block the isolate until the answer is there. */
export const ASKED = ['random', 'partSource'] as const;

/** The two functions of isolated-vm that all calls go through: making one costs an isolate as much as several calls do. */
export interface HostLine {
  readonly tell: (name: string, ...args: unknown[]) => void;
  readonly ask: (name: string, ...args: unknown[]) => unknown;
}
let line: HostLine = { tell: () => undefined, ask: () => undefined };

export function connectHost(to: HostLine): void {
  line = to;
}

// No call has more than four arguments. They are not an array: a buffer in one would be serialised, and leave a copy.
const calls = Object.fromEntries([
  ...TOLD.map((name) => [name, (a: unknown, b: unknown, c: unknown, d: unknown) => line.tell(name, a, b, c, d)]),
  ...ASKED.map((name) => [name, (a: unknown, b: unknown, c: unknown, d: unknown) => line.ask(name, a, b, c, d)]),
]) as unknown as HostCalls;

export const host = (): HostCalls => calls;

// ---- answers of the host to asynchronous calls, by id

interface Pending {
  resolve(value: unknown): void;
  reject(error: unknown): void;
}
const pending = new Map<number, Pending>();
let lastId = 0;

/** Calls under way at once in one invocation; more are refused, for they would fill the memory of the process. */
const PENDING_MAX = 256;

export function callHost<T>(send: (id: number) => void): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    if (pending.size >= PENDING_MAX) throw new RangeError(`more than ${PENDING_MAX} calls at once`);
    const id = ++lastId;
    send(id);
    pending.set(id, { resolve: resolve as (value: unknown) => void, reject });
  });
}

export function takePending(id: number): Pending | undefined {
  const found = pending.get(id);
  pending.delete(id);
  return found;
}

// ---- services

/** Requests that the process has at once; the others wait here, where the isolate's own memory bounds them. */
const SERVICE_CALLS_MAX = 32;
const waiting: (() => void)[] = [];
let underway = 0;

/** Asks a service of the process. Buffers in the request are copied; give it copies that nobody else holds, all the same. */
export async function callService<T>(service: string, request: object): Promise<T> {
  if (underway >= SERVICE_CALLS_MAX) await new Promise<void>((resolve) => waiting.push(resolve));
  underway += 1;
  try {
    return await callHost<T>((id) => host().call(id, service, request));
  } finally {
    underway -= 1;
    waiting.shift()?.();
  }
}
