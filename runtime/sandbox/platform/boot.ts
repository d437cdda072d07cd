import { decodeRequest } from '../../../proto/bhttp.ts';
import { AbortController, type AbortSignal } from './abort.ts';
import { startClock } from './clock.ts';
import { DOMException } from './dom-exception.ts';
import { onUploadCredit } from './fetch.ts';
import { connectHost, host, takePending, type HostEvent, type HostLine } from './host.ts';
import { hostError, outcomeOf } from './host-error.ts';
import { incomingBody, onBody, onEnded } from './incoming-body.ts';
import { installGlobals, removeBlocking } from './install.ts';
import { dropOffers, loadPart, offerPart } from './lazy.ts';
import { makeModel, type ModelShapes } from './model.ts';
import { requestFrom } from './request.ts';
import { isResponse } from './response.ts';
import { onCredit, sendResponse, stopResponse } from './respond.ts';
import { fireTimer, holdTimers, startTimers } from './timers.ts';
import { warmBodies, warmHandler, warmRequest } from './warm.ts';

/** What the process passes when it readies an isolate, before there is a request. */
export interface BootOptions {
  readonly vars: Readonly<Record<string, string>>;
  readonly models: readonly ModelShapes[];
  readonly responseBytesMax: number;
}
/** The function's module was evaluated. */
type ModuleEvent = ['module', namespace: { readonly default?: unknown }];
type Handler = (request: unknown, env: unknown, ctx: unknown) => unknown;

let env: Record<string, unknown> = {};
let handle: Handler | undefined;
let responseBytesMax = 0;

/** Made when the function asks for it. */
let caller: AbortController | undefined;
let callerGone = false;
function callerSignal(): AbortSignal {
  caller ??= new AbortController();
  if (callerGone) caller.abort();
  return caller.signal;
}

async function invoke(request: ArrayBuffer, streamed: boolean): Promise<void> {
  let code = '';
  const waiting: Promise<unknown>[] = [];
  const ctx = {
    waitUntil(promise: unknown): void {
      waiting.push(Promise.resolve(promise).then(undefined, () => undefined));
    },
  };
  try {
    startTimers();
    const decoded = decodeRequest(new Uint8Array(request));
    const body = streamed ? incomingBody(0) : undefined;
    const response = await handle?.(requestFrom(decoded, body, callerSignal), env, ctx);
    if (isResponse(response)) await sendResponse(response, decoded.method !== 'HEAD', responseBytesMax);
    else code = 'CFN_FUNCTION_NO_RESPONSE';
  } catch (error) {
    code = outcomeOf(error);
  }
  // What a function promised to finish may promise more.
  for (let settled = 0; code === '' && settled < waiting.length; settled++) await waiting[settled];
  host().finish(code);
}

type Event = HostEvent | ModuleEvent;

/** Answers whether there is a handler, to `module` alone. */
function onEvent(event: Event): unknown {
  switch (event[0]) {
    case 'module':
      return useModule(event[1]);
    case 'invoke':
      void invoke(event[1], event[2]);
      return;
    case 'body':
      return onBody(event[1], event[2]);
    case 'ended':
      return onEnded(event[1], event[2]);
    case 'credit':
      return event[1] === 0 ? onCredit(event[2]) : onUploadCredit(event[1], event[2]);
    case 'fetched':
      takePending(event[1])?.resolve({ head: event[2], url: event[3], redirected: event[4] });
      return;
    case 'abort':
      callerGone = true;
      caller?.abort();
      stopResponse(new DOMException('the caller went away', 'AbortError'));
      return;
    case 'timer':
      fireTimer(event[1]);
      return;
    case 'result':
      takePending(event[1])?.resolve({ tensors: event[2], bytes: event[3] });
      return;
    case 'answer':
      takePending(event[1])?.resolve(event[2]);
      return;
    case 'refused':
      takePending(event[1])?.reject(
        event[2] === 'TypeError' ? new TypeError(event[3]) : new DOMException(event[3], event[2]),
      );
      return;
    case 'failed':
      takePending(event[1])?.reject(hostError(event[2], event[3]));
      return;
    default:
      event satisfies never;
      return;
  }
}

/** Runs in each isolate, before the function's module. Returns what the process calls afterwards. */
function boot(line: HostLine, options: BootOptions): (...event: Event) => unknown {
  connectHost(line);
  removeBlocking();
  startClock();
  responseBytesMax = options.responseBytesMax;
  env = { ...options.vars };
  options.models.forEach((model, index) => (env[model.binding] = makeModel(model, index)));
  return (...event) => onEvent(event);
}

function useModule(namespace: { readonly default?: unknown }): boolean {
  const target = namespace.default as { fetch?: unknown } | null | undefined;
  if (target === null || target === undefined || typeof target.fetch !== 'function') return false;
  handle = (request, bindings, ctx) => (target.fetch as Handler).call(target, request, bindings, ctx);
  return true;
}

/**
 * Goes once through what every isolate and every request goes through, while the snapshot is made, so that V8 has compiled it before
 * a real one comes. A real boot overwrites what this one leaves.
 */
async function warmUp(): Promise<void> {
  const options = { vars: {}, models: [], responseBytesMax: Number.MAX_SAFE_INTEGER };
  const send = boot({ tell: () => undefined, ask: () => undefined }, options);
  send('module', { default: { fetch: warmHandler } });
  send('invoke', warmRequest(), false);
  await warmBodies();
  handle = undefined;
  holdTimers();
}

installGlobals();
void warmUp(); // into the snapshot
Object.defineProperty(globalThis, '__boot', {
  value: Object.assign(boot, { offerPart, loadPart, dropOffers }),
  configurable: true,
});
