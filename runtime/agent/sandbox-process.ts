import { linkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import {
  BODY_WINDOW_BYTES,
  CfnError,
  isErrorCode,
  MODELS_MAX,
  toCfnError,
  utf8,
  type ErrorCode,
  type FunctionManifest,
  type Sealed,
} from '../../proto/index.ts';
import type { AgentToSandbox, SandboxToAgent, Usage } from '../ipc/messages.ts';
import { crediting, openWindow, type Window } from '../ipc/flow.ts';
import type { SandboxCode } from '../sandbox/sandbox-code.ts';
import { startChild, type ChildOptions } from './child-process.ts';
import type { EgressSession, Reply } from './egress/session.ts';
import type { ModelShapes } from './engine-process.ts';

/** What an invocation came to, told after the wipe. */
export interface InvocationEnd {
  /** Absent: success. */
  readonly code?: ErrorCode;
  readonly usage: Usage;
  readonly wipe: {
    readonly isolateDisposed: boolean;
    readonly sandboxBytesOverwritten: number;
    readonly engineBytesOverwritten: number;
  };
}

/** A sandbox that knows the web platform and no function yet. */
export interface PreparedSandbox {
  readonly pid: number;
  readonly ended: Promise<void>;
  readonly kill: () => void;
  /** Has it make the key that its secrets are to be wrapped to. @throws {CfnError} `CFN_SANDBOX_LOST` */
  wrappingKey(): Promise<string>;
  /**
   * Hands it its function; once.
   *
   * @throws {CfnError} `CFN_FUNCTION_INVALID` when the bundle does not evaluate; `CFN_SANDBOX_LOST` when the process ends
   */
  start(start: SandboxStart): Promise<SandboxProcess>;
}

/** A request as it goes to a sandbox. */
export interface InvocationRequest {
  /** Binary HTTP: whole, or the head alone where there is a `rest`. */
  readonly message: readonly Uint8Array[];
  /** The content, as it comes. Pieces belong to the iterator, which may overwrite them at the next call. Left where the invocation ends. */
  readonly rest: AsyncIterator<readonly Uint8Array[]> | undefined;
  readonly wallMs: number;
  /** Opens the road for the function's fetches, at the first one. */
  readonly egress: (reply: Reply) => EgressSession;
}
/**
 * Gets the response's binary HTTP piece by piece, and owns each. `status` comes with the first. Resolves when the piece was passed on:
 * only so much may wait.
 */
export type OnResponse = (piece: Uint8Array, status: number | undefined) => Promise<void>;

/** A process that serves one function version, each invocation in an isolate of its own. */
export interface SandboxProcess {
  readonly pid: number;
  readonly ended: Promise<void>;
  /**
   * It ran out of memory: take another one for what comes. V8 does not unwind an isolate then, so that only the end of the process gives
   * its memory back; it ends after the last of its invocations.
   */
  readonly retired: Promise<void>;
  /** Runs one request. */
  invoke(id: string, request: InvocationRequest, onResponse: OnResponse): Promise<InvocationEnd>;
  /** Invocations under way. */
  inflight(): number;
  /** Ends an invocation; the code is what it comes to. */
  abort(id: string, code: ErrorCode): void;
  /** Ends it after the last of its invocations, at once where there is none. */
  retire(): void;
  kill(): void;
}

export interface SandboxStart {
  readonly limits: FunctionManifest['limits'];
  readonly vars: Readonly<Record<string, string>>;
  readonly models: readonly ({ readonly binding: string; readonly socketPath: string } & ModelShapes)[];
  /** Wrapped to its {@link PreparedSandbox.wrappingKey}. */
  readonly secrets?: { readonly wrapped: Sealed; readonly version: string; readonly challenge: string } | undefined;
  readonly poolSize: number;
  readonly bundle: Uint8Array;
}

const count = z.number().nonnegative().max(Number.MAX_SAFE_INTEGER);
/**
 * What a sandbox says of an invocation goes into the receipt, which the gateway reads. Numbers, and nothing else: a sandbox that was
 * broken into would put the request there.
 */
const claimsSchema = z.strictObject({
  usage: z.strictObject({
    cpuMs: count,
    wallMs: count,
    models: z.array(z.strictObject({ engineMs: count, engineCalls: z.int().nonnegative() })).max(MODELS_MAX),
  }),
  wipe: z.strictObject({
    isolateDisposed: z.boolean(),
    sandboxBytesOverwritten: count,
    engineBytesOverwritten: count,
  }),
}) satisfies z.ZodType<Pick<InvocationEnd, 'usage' | 'wipe'>>;

const NOTHING_RAN: InvocationEnd = {
  code: 'CFN_SANDBOX_LOST',
  usage: { cpuMs: 0, wallMs: 0, models: [] },
  // The process is gone and its memory with it, but nobody counted what was overwritten.
  wipe: { isolateDisposed: true, sandboxBytesOverwritten: 0, engineBytesOverwritten: 0 },
};

export function prepareSandbox({ program, platform }: SandboxCode, options: ChildOptions): PreparedSandbox {
  interface Running {
    readonly end: (result: InvocationEnd) => void;
    readonly onResponse: OnResponse;
    /** Of the request's content. */
    readonly window: Window;
    /** Response bytes were passed on. */
    readonly used: (bytes: number) => void;
    readonly egress: () => EgressSession;
    waitingBytes: number;
  }
  const running = new Map<string, Running>();
  const ready = Promise.withResolvers<void>();
  const retired = Promise.withResolvers<void>();
  const wrappingKey = Promise.withResolvers<string>();
  let isRetired = false;
  const child = startChild('sandbox', { ...options, program }, ({ header, payload }) => {
    const message = header as unknown as SandboxToAgent;
    switch (message.op) {
      case 'secrets-key':
        return wrappingKey.resolve(String(message.wrappingKey));
      case 'ready':
        return ready.resolve();
      case 'start-failed':
        return ready.reject(
          new CfnError(isErrorCode(message.code) ? message.code : 'CFN_FUNCTION_INVALID', message.message),
        );
      case 'response':
        return respond(running.get(message.id), payload, message.status);
      case 'credit':
      case 'fetch':
      case 'body':
      case 'cancel': {
        const call = running.get(message.id);
        if (call === undefined) return void payload.fill(0);
        if (message.op === 'credit' && message.call === 0) return call.window.add(message.bytes);
        return call.egress().receive(message, payload);
      }
      case 'done': {
        const { id, code } = message;
        const { usage, wipe } = claimsSchema.parse({ usage: message.usage, wipe: message.wipe }); // or the channel closes
        const known: ErrorCode = isErrorCode(code) ? code : 'CFN_INTERNAL';
        const call = running.get(id);
        running.delete(id);
        call?.window.close();
        call?.end(code === undefined ? { usage, wipe } : { code: known, usage, wipe });
        if (code === 'CFN_LIMIT_MEMORY') {
          isRetired = true;
          retired.resolve();
        }
        endIfDone();
      }
    }
  });
  function endIfDone(): void {
    if (isRetired && running.size === 0) child.kill();
  }
  function respond(call: Running | undefined, piece: Uint8Array, status: number | undefined): void {
    if (call === undefined) return void piece.fill(0);
    const bytes = piece.length;
    call.waitingBytes += bytes;
    if (call.waitingBytes > 2 * BODY_WINDOW_BYTES) return child.kill(); // it does not keep to its credit
    void call.onResponse(piece, status).then(() => {
      call.waitingBytes -= bytes;
      call.used(bytes);
    });
  }
  /** Passes content on, in step with the sandbox, until it ends or the invocation does. */
  async function pump(id: string, rest: AsyncIterator<readonly Uint8Array[]>, window: Window): Promise<void> {
    try {
      for (;;) {
        const { done, value: pieces } = await rest.next();
        const full = window.room();
        if (full !== undefined) await full;
        if (!running.has(id)) return;
        if (done === true) return await send({ op: 'body', id, call: 0, end: true });
        window.spend(pieces.reduce((sum, piece) => sum + piece.length, 0));
        await send({ op: 'body', id, call: 0 }, ...pieces);
      }
    } catch (error) {
      if (running.has(id)) await send({ op: 'body-failed', id, call: 0, code: toCfnError(error).code });
    }
  }
  void child.ended.then(() => {
    const gone = new CfnError('CFN_SANDBOX_LOST', 'the sandbox process ended');
    ready.reject(gone);
    wrappingKey.reject(gone);
    const lost = [...running.values()];
    running.clear();
    for (const { end, window } of lost) {
      window.close();
      end(NOTHING_RAN);
    }
  });
  const send = (message: AgentToSandbox, ...payloads: readonly Uint8Array[]): Promise<void> =>
    child.channel.send({ ...message }, ...payloads);

  for (const { promise } of [ready, wrappingKey]) promise.catch(() => undefined); // a spare may end before anybody waits for it
  send({ op: 'platform' }, utf8(platform)).catch(() => child.kill());
  const { pid, ended, kill } = child;
  /** A second name of the engine's socket, in the folder that this sandbox sees; it sees no other's. */
  const within = (model: SandboxStart['models'][number]): SandboxStart['models'][number] => {
    const socketPath = join(child.sockets, basename(model.socketPath));
    try {
      linkSync(model.socketPath, socketPath);
    } catch (cause) {
      throw new CfnError('CFN_ENGINE_LOST', `the engine of ${model.binding} has no socket any more`, { cause });
    }
    return { ...model, socketPath };
  };
  const sandbox: SandboxProcess = {
    pid,
    ended,
    retired: retired.promise,
    kill,
    inflight: () => running.size,
    retire() {
      isRetired = true;
      endIfDone();
    },
    abort: (id, code) => void send({ op: 'abort', id, code }).catch(() => undefined),
    async invoke(id, { message, rest, wallMs, egress }, onResponse) {
      const { promise, resolve } = Promise.withResolvers<InvocationEnd>();
      const window = openWindow(BODY_WINDOW_BYTES);
      const used = crediting(BODY_WINDOW_BYTES, (bytes) => {
        if (running.has(id)) send({ op: 'credit', id, call: 0, bytes }).catch(() => undefined);
      });
      let session: EgressSession | undefined;
      const openEgress = (): EgressSession =>
        (session ??= egress((reply, ...payloads) =>
          running.has(id) ? send({ ...reply, id }, ...payloads) : Promise.resolve(),
        ));
      running.set(id, { end: resolve, onResponse, window, used, egress: openEgress, waitingBytes: 0 });
      const head: AgentToSandbox = { op: 'invoke', id, wallMs, ...(rest === undefined ? {} : { streamed: true }) };
      await send(head, ...message).catch(() => resolve(NOTHING_RAN));
      if (rest !== undefined) pump(id, rest, window).catch(() => undefined); // the channel is closed: the process has ended
      return promise;
    },
  };
  return {
    pid,
    ended,
    kill,
    wrappingKey() {
      send({ op: 'secrets-key' }).catch(kill);
      return wrappingKey.promise;
    },
    async start({ limits, vars, secrets, models, poolSize, bundle }) {
      if (secrets !== undefined) {
        const { wrapped, version, challenge } = secrets;
        send({ op: 'secrets', version, challenge }, utf8(JSON.stringify(wrapped))).catch(kill);
      }
      send({ op: 'start', limits, vars, models: models.map(within), poolSize }, bundle).catch(kill);
      try {
        await ready.promise;
      } catch (error) {
        kill();
        throw error;
      }
      return sandbox;
    },
  };
}
