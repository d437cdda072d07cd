import type { TensorHeader } from '../../ipc/messages.ts';

/**
 * What the process around the isolate does for the platform. Functions of isolated-vm: arguments are copied, never shared. They stay in
 * this module; code of the function cannot reach them. The other side checks every argument all the same.
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
  digest(id: number, algorithm: string, bytes: ArrayBuffer): void;
  /** The code of a part of the platform. Blocks the isolate until the answer is there. */
  partSource(name: string): string;
}

/** Those that belong to an invocation. */
export type InvocationCalls = Omit<HostCalls, 'partSource'>;

/** Calls of the process into the isolate, through the one function that `boot` returns. */
export type HostEvent =
  | ['invoke', request: ArrayBuffer]
  | ['timer', id: number]
  | ['result', id: number, tensors: readonly TensorHeader[], bytes: ArrayBuffer]
  | ['digested', id: number, digest: ArrayBuffer]
  | ['failed', id: number, code: string, message: string];

let calls: HostCalls | undefined;

export function connectHost(host: HostCalls): void {
  calls = host;
}

export function host(): HostCalls {
  if (calls === undefined) throw new Error('the host is not connected');
  return calls;
}

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
