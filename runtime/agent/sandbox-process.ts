import { linkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { CfnError, isErrorCode, utf8, type ErrorCode, type FunctionManifest } from '../../proto/index.ts';
import type { AgentToSandbox, SandboxToAgent, Usage } from '../ipc/messages.ts';
import type { SandboxCode } from '../sandbox/sandbox-code.ts';
import { startChild, type ChildOptions } from './child-process.ts';
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
  /**
   * Hands it its function; once.
   *
   * @throws {CfnError} `CFN_FUNCTION_INVALID` when the bundle does not evaluate; `CFN_SANDBOX_LOST` when the process ends
   */
  start(start: SandboxStart): Promise<SandboxProcess>;
}

/** A process that serves one function version, each invocation in an isolate of its own. */
export interface SandboxProcess {
  readonly pid: number;
  readonly ended: Promise<void>;
  /**
   * Runs one request (binary HTTP). `onResponse` gets the response's binary HTTP piece by piece; it owns each piece.
   * `status` comes with the first.
   */
  invoke(
    id: string,
    request: Uint8Array,
    wallMs: number,
    onResponse: (piece: Uint8Array, status: number | undefined) => void,
  ): Promise<InvocationEnd>;
  abort(id: string): void;
  kill(): void;
}

export interface SandboxStart {
  readonly limits: FunctionManifest['limits'];
  readonly vars: Readonly<Record<string, string>>;
  readonly models: readonly ({ readonly binding: string; readonly socketPath: string } & ModelShapes)[];
  readonly poolSize: number;
  readonly bundle: Uint8Array;
}

const count = z.number().nonnegative().max(Number.MAX_SAFE_INTEGER);
/**
 * What a sandbox says of an invocation goes into the receipt, which the gateway reads. Numbers, and nothing else: a sandbox that was
 * broken into would put the request there.
 */
const claimsSchema = z.strictObject({
  usage: z.strictObject({ cpuMs: count, wallMs: count, engineMs: count, engineCalls: z.int().nonnegative() }),
  wipe: z.strictObject({
    isolateDisposed: z.boolean(),
    sandboxBytesOverwritten: count,
    engineBytesOverwritten: count,
  }),
}) satisfies z.ZodType<Pick<InvocationEnd, 'usage' | 'wipe'>>;

const NOTHING_RAN: InvocationEnd = {
  code: 'CFN_SANDBOX_LOST',
  usage: { cpuMs: 0, wallMs: 0, engineMs: 0, engineCalls: 0 },
  // The process is gone and its memory with it, but nobody counted what was overwritten.
  wipe: { isolateDisposed: true, sandboxBytesOverwritten: 0, engineBytesOverwritten: 0 },
};

export function prepareSandbox({ program, platform }: SandboxCode, options: ChildOptions): PreparedSandbox {
  const running = new Map<
    string,
    { end: (result: InvocationEnd) => void; onResponse: (piece: Uint8Array, status: number | undefined) => void }
  >();
  const ready = Promise.withResolvers<void>();
  const child = startChild('sandbox', { ...options, program }, ({ header, payload }) => {
    const message = header as unknown as SandboxToAgent;
    switch (message.op) {
      case 'ready':
        return ready.resolve();
      case 'start-failed':
        return ready.reject(
          new CfnError(isErrorCode(message.code) ? message.code : 'CFN_FUNCTION_INVALID', message.message),
        );
      case 'response':
        return running.get(message.id)?.onResponse(payload, message.status);
      case 'done': {
        const { id, code } = message;
        const { usage, wipe } = claimsSchema.parse({ usage: message.usage, wipe: message.wipe }); // or the channel closes
        const known: ErrorCode = isErrorCode(code) ? code : 'CFN_INTERNAL';
        running.get(id)?.end(code === undefined ? { usage, wipe } : { code: known, usage, wipe });
        running.delete(id);
      }
    }
  });
  void child.ended.then(() => {
    ready.reject(new CfnError('CFN_SANDBOX_LOST', 'the sandbox process ended'));
    for (const { end } of running.values()) end(NOTHING_RAN);
    running.clear();
  });
  const send = (message: AgentToSandbox, payload: Uint8Array = new Uint8Array(0)): Promise<void> =>
    child.channel.send({ ...message }, payload);

  ready.promise.catch(() => undefined); // a spare may end before anybody waits for it
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
    kill,
    abort: (id) => void send({ op: 'abort', id }).catch(() => undefined),
    async invoke(id, request, wallMs, onResponse) {
      const { promise, resolve } = Promise.withResolvers<InvocationEnd>();
      running.set(id, { end: resolve, onResponse });
      await send({ op: 'invoke', id, wallMs }, request).catch(() => resolve(NOTHING_RAN));
      return promise;
    },
  };
  return {
    pid,
    ended,
    kill,
    async start({ limits, vars, models, poolSize, bundle }) {
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
