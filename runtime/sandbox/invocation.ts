import type ivm from 'isolated-vm';
import {
  BODY_WINDOW_BYTES,
  CfnError,
  EGRESS_CALLS_MAX,
  encodedResponseBytesMax,
  isErrorCode,
  toCfnError,
  type ErrorCode,
} from '../../proto/index.ts';
import type { FetchMessage, InvocationMessage, SandboxToAgent, TensorHeader, Usage } from '../ipc/messages.ts';
import type { EngineLink } from './engine-link.ts';
import { incoming, type Incoming } from './incoming.ts';
import type { ReadyIsolate } from './isolate.ts';
import type { InvocationCalls } from './platform/host.ts';
import { buffersOf, serviceDesk } from './services/desk.ts';
import { Refusal } from './services/service.ts';
import { readLayout } from './tensor-layout.ts';

export interface InvocationDeps {
  readonly engines: readonly EngineLink[];
  /** Names of each binding's inputs, in the order that the isolate counts them. */
  readonly inputNames: readonly (readonly string[])[];
  readonly limits: { readonly cpuMs: number; readonly wallMs: number; readonly memoryMb: number };
  readonly responseBytesMax: number;
  /** Monotonic, in ms. */
  readonly now: () => number;
  readonly random: (length: number) => ArrayBuffer;
  readonly respond: (bytes: Uint8Array, status: number | undefined) => Promise<void>;
  /** Tells the agent what the isolate wants fetched, or has used of a body. */
  readonly tell: (message: FetchMessage, payload?: Uint8Array) => Promise<void>;
}

/** A request as it is handed to the isolate: detached when the invocation has begun. */
export interface InvocationRequest {
  /** Binary HTTP: whole, or the head alone. */
  readonly message: ArrayBuffer;
  /** The content comes in `body` messages. */
  readonly streamed: boolean;
  readonly wallMs: number;
}

/** A request under way in an isolate of its own. */
export interface Invocation {
  /** Settles after the wipe. */
  readonly done: Promise<InvocationEnd>;
  readonly isolate: ivm.Isolate;
  /** Looks whether a limit was passed; called at short intervals. */
  check(): void;
  /** Takes a message of the agent; its payload is owned here from now on. */
  receive(message: InvocationMessage, payload: Uint8Array<ArrayBuffer>): void;
  /** Ends it at once with this outcome; the first outcome counts. */
  stop(code: ErrorCode): void;
}
export type InvocationEnd = Pick<Extract<SandboxToAgent, { op: 'done' }>, 'usage' | 'wipe'> & {
  readonly code?: string;
};

const NS_PER_MS = 1e6;
/** How long the wipe waits for engines that still hold tensors of this request, in ms. */
const ENGINE_WAIT_MS = 2_000;
/** How long an isolate may take to become idle after its outcome, in ms. */
const IDLE_WAIT_MS = 2;
/** How long the wipe waits after V8's memory limit ended an isolate, in ms. */
const MEMORY_EXIT_MS = 20;
/** How long a thread of V8 may take to leave an isolate that was disposed, in ms. */
const EXIT_WAIT_MS = 5_000;
/** Time that a function has for tidying up when its caller has gone, in ms. */
const ABORT_GRACE_MS = 40;

/** Starts the handler. */
export function invoke(
  ready: ReadyIsolate,
  { message, streamed, wallMs }: InvocationRequest,
  deps: InvocationDeps,
): Invocation {
  const { isolate } = ready;
  const started = deps.now();
  const ended = Promise.withResolvers<ErrorCode | undefined>();
  const timers = new Map<number, NodeJS.Timeout>();
  const underway = new Set<Promise<void>>();
  const leaving = new Set<Promise<void>>();
  let over = false;
  let aborted: ErrorCode | undefined;
  let abortTimer: NodeJS.Timeout | undefined;
  let unusedBytes = 0;
  let cpuNs = 0n;
  let serviceCpuNs = 0n;
  let responseBytes = 0;
  let [engineBytesOverwritten, sandboxBytesOverwritten] = [0, 0];
  const models = deps.engines.map(() => ({ engineMs: 0, engineCalls: 0 }));

  function wipe(bytes: Uint8Array): void {
    bytes.fill(0);
    sandboxBytesOverwritten += bytes.length;
  }
  function end(code: ErrorCode | undefined): void {
    if (over) return;
    over = true;
    readCpu();
    clearTimeout(abortTimer);
    for (const body of [request, ...fetched.values()]) body.drop();
    ended.resolve(aborted ?? code);
  }
  function readCpu(): void {
    if (!isolate.isDisposed) cpuNs = isolate.cpuTime - ready.cpuBefore + serviceCpuNs;
  }
  const desk = serviceDesk((ms) => {
    serviceCpuNs += BigInt(Math.ceil(ms * NS_PER_MS));
    readCpu();
    if (Number(cpuNs) / NS_PER_MS <= deps.limits.cpuMs) return;
    end('CFN_LIMIT_CPU');
    throw new Refusal('OperationError', 'the CPU time is used up');
  });
  /** The isolate may have gone in the meantime. */
  function send(...event: Parameters<ReadyIsolate['send']>): void {
    if (!over && !isolate.isDisposed) ready.send(...event);
  }

  function abort(code: ErrorCode): void {
    if (over || aborted !== undefined) return;
    aborted = code;
    send('abort');
    abortTimer = setTimeout(() => end(code), ABORT_GRACE_MS);
  }
  /** Fails where the agent has gone: then this process ends, too. */
  const tell = (message: FetchMessage): void => void deps.tell(message).catch(() => undefined);
  const bodyOf = (call: number): Incoming =>
    incoming({
      deliver: (bytes) => send('body', call, bytes),
      ended: (code) => send('ended', call, code ?? ''),
      credit: (bytes) => over || tell({ op: 'credit', call, bytes }),
      wipe,
    });
  const request = bodyOf(0);
  /** What is fetched, by its call. */
  const fetched = new Map<number, Incoming>();
  const incomingOf = (call: number): Incoming | undefined => (call === 0 ? request : fetched.get(call));
  /** Sends bytes of the function to the agent, and overwrites them. */
  function pass(message: FetchMessage, bytes: Uint8Array): void {
    unusedBytes += bytes.length;
    if (unusedBytes > (2 + fetched.size) * BODY_WINDOW_BYTES) end('CFN_LIMIT_MEMORY');
    if (over) return wipe(bytes);
    const sent = deps
      .tell(message, bytes)
      .catch(() => undefined)
      .finally(() => {
        wipe(bytes);
        leaving.delete(sent);
      });
    leaving.add(sent);
  }

  // What comes from the isolate is checked as if the function itself had sent it.
  const calls: InvocationCalls = {
    respond(bytes, status) {
      if (!(bytes instanceof ArrayBuffer)) return;
      const piece = new Uint8Array(bytes);
      responseBytes += piece.length;
      unusedBytes += piece.length;
      // The platform inside keeps the exact limit, and waits for credit.
      if (responseBytes > encodedResponseBytesMax(deps.responseBytesMax) || unusedBytes > 2 * BODY_WINDOW_BYTES)
        end('CFN_LIMIT_RESPONSE');
      if (over) return wipe(piece);
      const sent = deps
        .respond(piece, status >= 200 && status <= 599 ? status : undefined)
        .catch(() => undefined)
        .finally(() => {
          wipe(piece);
          leaving.delete(sent);
        });
      leaving.add(sent);
    },
    finish: (code) => end(code === '' ? undefined : isErrorCode(code) ? code : 'CFN_FUNCTION_THREW'),
    run(id, binding, layout, bytes) {
      if (!(bytes instanceof ArrayBuffer) || !Number.isSafeInteger(id)) return;
      const payload = new Uint8Array(bytes);
      const call = callEngine(id, binding, layout, payload)
        .catch((error: unknown) => {
          const { code, message } = toCfnError(error);
          send('failed', id, code, message);
        })
        .finally(() => {
          wipe(payload);
          underway.delete(call);
        });
      underway.add(call);
    },
    startTimer(id, ms) {
      if (over) return;
      clearTimeout(timers.get(id));
      timers.set(
        id,
        setTimeout(() => {
          timers.delete(id);
          send('timer', id);
        }, ms),
      );
    },
    stopTimer(id) {
      clearTimeout(timers.get(id));
      timers.delete(id);
    },
    call(id, service, request) {
      if (!Number.isSafeInteger(id)) return;
      const call = desk.call(service, request).then((answer) => {
        underway.delete(call);
        if ('refusal' in answer) send('refused', id, answer.refusal.name, answer.refusal.message);
        else if (over) buffersOf(answer.value).forEach((buffer) => wipe(new Uint8Array(buffer)));
        else send('answer', id, answer.value);
      });
      underway.add(call);
    },
    random: deps.random,
    pull: (call) => incomingOf(call)?.pull(),
    drop(call) {
      incomingOf(call)?.drop();
      if (call !== 0) tell({ op: 'cancel', call });
    },
    fetch(call, redirect, streamed, bytes) {
      if (!(bytes instanceof ArrayBuffer) || !Number.isSafeInteger(call) || call < 1 || fetched.has(call)) return;
      if (fetched.size > EGRESS_CALLS_MAX)
        return send('refused', call, 'TypeError', `fetch: over ${EGRESS_CALLS_MAX} calls`);
      fetched.set(call, bodyOf(call));
      const piece = new Uint8Array(bytes);
      pass({ op: 'fetch', call, redirect: String(redirect), streamed: Boolean(streamed) }, piece);
      unusedBytes -= piece.length; // heads are few, and have no credit
    },
    sendBody(call, bytes, ended) {
      if (!(bytes instanceof ArrayBuffer) || !fetched.has(call)) return;
      pass({ op: 'body', call, ...(ended === true ? { end: true } : {}) }, new Uint8Array(bytes));
    },
  };

  async function callEngine(
    id: number,
    binding: number,
    layout: readonly number[],
    payload: Uint8Array,
  ): Promise<void> {
    const [engine, names, used] = [deps.engines[binding], deps.inputNames[binding], models[binding]];
    if (engine === undefined || names === undefined || used === undefined)
      throw new CfnError('CFN_MODEL_INPUT', 'there is no such binding');
    const tensors: TensorHeader[] = readLayout(layout, names, payload.length);
    used.engineCalls += 1;
    const result = await engine.run(tensors, payload);
    used.engineMs += result.engineMs;
    engineBytesOverwritten += result.bytesOverwritten;
    if (over) wipe(result.payload);
    else send('result', id, result.tensors, result.payload.buffer);
  }

  async function finish(): Promise<InvocationEnd> {
    const code = await ended.promise;
    const wallUsedMs = deps.now() - started;
    for (const timer of timers.values()) clearTimeout(timer);
    timers.clear();
    const isolateDisposed = await disposeIsolate(isolate);
    desk.close();
    if (underway.size > 0) await within(Promise.allSettled(underway), ENGINE_WAIT_MS);
    await Promise.allSettled(leaving);
    const usage: Usage = { cpuMs: Number(cpuNs) / NS_PER_MS, wallMs: wallUsedMs, models };
    return {
      ...(code === undefined ? {} : { code }),
      usage,
      wipe: {
        isolateDisposed,
        sandboxBytesOverwritten: sandboxBytesOverwritten + desk.bytesOverwritten,
        engineBytesOverwritten,
      },
    };
  }

  ready.connect(calls);
  const done = finish();
  ready.send('invoke', message, streamed);
  return {
    done,
    isolate,
    stop: end,
    receive(it, payload) {
      if (over) return wipe(payload);
      switch (it.op) {
        case 'body': {
          const into = incomingOf(it.call);
          into?.push(payload);
          if (it.end === true) into?.end();
          return;
        }
        case 'body-failed': {
          const code = isErrorCode(it.code) ? it.code : 'CFN_ABORTED';
          incomingOf(it.call)?.end(code);
          return it.call === 0 ? abort(code) : undefined;
        }
        case 'fetched':
          return send('fetched', it.call, payload.buffer, it.url, it.redirected);
        case 'fetch-failed':
          return send('refused', it.call, 'TypeError', it.message);
        case 'credit':
          unusedBytes -= it.bytes;
          return send('credit', it.call, it.bytes);
        case 'abort':
          return abort(isErrorCode(it.code) ? it.code : 'CFN_ABORTED');
        default:
          it satisfies never;
      }
    },
    check() {
      if (over) return;
      // Nobody but V8's memory limit disposes an isolate under way.
      if (isolate.isDisposed) return end('CFN_LIMIT_MEMORY');
      readCpu();
      if (Number(cpuNs) / NS_PER_MS > deps.limits.cpuMs) end('CFN_LIMIT_CPU');
      else if (deps.now() - started > Math.min(wallMs, deps.limits.wallMs)) end('CFN_LIMIT_WALL');
    },
  };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function within(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => (timer = setTimeout(() => resolve(false), ms)));
  const settled = await Promise.race([promise.then(() => true), late]);
  clearTimeout(timer);
  return settled;
}

/** Resolves when no thread is in the isolate any more: its memory is given back. */
async function disposeIsolate(isolate: ivm.Isolate): Promise<boolean> {
  // A task that waits behind whatever runs now; disposal drops it, which tells us that the thread has left. An isolate that has
  // nothing to do answers it. Where V8's memory limit has disposed it already, its thread unwinds unseen: a moment for that.
  const left = isolate.isDisposed
    ? sleep(MEMORY_EXIT_MS)
    : isolate.getHeapStatistics().then(
        () => undefined,
        () => undefined,
      );
  if (!(await within(left, IDLE_WAIT_MS)) && !isolate.isDisposed) isolate.dispose();
  const gone = await within(left, EXIT_WAIT_MS);
  if (!isolate.isDisposed) isolate.dispose();
  return gone && isolate.isDisposed;
}
