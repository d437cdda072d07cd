import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeRequest } from '../../proto/bhttp.ts';
import { createResponseDecoder } from '../../proto/bhttp-response.ts';
import { BODY_WINDOW_BYTES, concatBytes, utf8 } from '../../proto/index.ts';
import { crediting } from '../ipc/flow.ts';
import { ENVIRONMENT } from '../agent/child-process.ts';
import { openChannel, type Channel, type Frame } from '../ipc/channel.ts';
import type { AgentToSandbox, SandboxToAgent, SandboxToEngine, TensorShape } from '../ipc/messages.ts';
import { buildSandboxCode, type SandboxCode } from './sandbox-code.ts';

/** The agent's side of a real sandbox process, for tests. */

let built: Promise<SandboxCode> | undefined;
const code = (): Promise<SandboxCode> => (built ??= buildSandboxCode());

export interface Answer {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly frames: number;
  readonly largestFrame: number;
  readonly done: Extract<SandboxToAgent, { op: 'done' }>;
}
export interface Call {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: readonly (readonly [string, string])[];
  readonly body?: string | Uint8Array;
  readonly wallMs?: number;
  readonly id?: string;
}
export interface TestSandbox {
  readonly pid: number;
  readonly first: Extract<SandboxToAgent, { op: 'ready' | 'start-failed' }>;
  /** From spawn, or from the hand-over of the function to a spare, to the first message, in ms. */
  readonly startMs: number;
  readonly exited: Promise<void>;
  call(call?: Call): Promise<Answer>;
  raw(id: string, request: Uint8Array, wallMs?: number): Promise<Answer>;
  abort(id: string): Promise<void>;
  close(): Promise<void>;
}
export interface TestOptions {
  readonly limits?: Partial<{ cpuMs: number; wallMs: number; memoryMb: number }>;
  readonly vars?: Readonly<Record<string, string>>;
  readonly models?: readonly {
    binding: string;
    socketPath: string;
    inputs: readonly TensorShape[];
    outputs: readonly TensorShape[];
  }[];
  readonly poolSize?: number;
  /** Seals secrets to the sandbox's key, as a KMS does; `version` and `challenge` go along. */
  readonly secrets?: (wrappingKey: string) => Promise<{ sealed: object; version: string; challenge: string }>;
  /** How long it waits for its function, in ms, as a process made ahead does. */
  readonly spareMs?: number;
  readonly flags?: readonly string[];
}

export async function startTestSandbox(bundle: string, options: TestOptions = {}): Promise<TestSandbox> {
  const { program, platform } = await code();
  let began = performance.now();
  const child = spawn(
    process.execPath,
    ['--no-node-snapshot', fileURLToPath(new URL('./loader.cjs', import.meta.url)), ...(options.flags ?? [])],
    {
      env: ENVIRONMENT.sandbox,
      stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
    },
  );
  const first = Promise.withResolvers<TestSandbox['first']>();
  const wrappingKey = Promise.withResolvers<string>();
  const waiting = new Map<
    string,
    {
      pieces: Uint8Array[];
      status: number | undefined;
      used: (bytes: number) => void;
      resolve: (answer: Answer) => void;
      reject: (error: Error) => void;
    }
  >();

  function onFrame({ header, payload }: Frame): void {
    const message = header as unknown as SandboxToAgent;
    if (message.op === 'ready' || message.op === 'start-failed') return first.resolve(message);
    if (message.op === 'secrets-key') return wrappingKey.resolve(message.wrappingKey);
    const call = waiting.get(message.id);
    if (call === undefined) throw new Error(`a frame for unknown ${message.id}`);
    if (message.op === 'response') {
      call.pieces.push(payload);
      call.status ??= message.status;
      call.used(payload.length);
      return;
    }
    if (message.op === 'fetch')
      void channel.send({
        op: 'fetch-failed',
        id: message.id,
        call: message.call,
        message: 'there is no network here',
      });
    if (message.op !== 'done') return;
    waiting.delete(message.id);
    call.resolve(readAnswer(call.pieces, call.status, message));
  }
  const exited = new Promise<void>((resolve) => child.on('exit', () => resolve()));
  const onClose = (): void => {
    const error = new Error('the sandbox process ended');
    first.reject(error);
    for (const call of waiting.values()) call.reject(error);
  };
  const channel = openChannel(child.stdio[3] as Socket, onFrame, onClose, program);
  const start: AgentToSandbox = {
    op: 'start',
    limits: { cpuMs: 5_000, wallMs: 10_000, memoryMb: 64, ...options.limits },
    vars: options.vars ?? {},
    models: options.models ?? [],
    poolSize: options.poolSize ?? 2,
  };
  await channel.send({ op: 'platform' }, utf8(platform));
  if (options.spareMs !== undefined) {
    await new Promise((resolve) => setTimeout(resolve, options.spareMs));
    began = performance.now();
  }
  if (options.secrets !== undefined) {
    await channel.send({ op: 'secrets-key' });
    const { sealed, ...rest } = await options.secrets(await wrappingKey.promise);
    await channel.send({ op: 'secrets', ...rest }, utf8(JSON.stringify(sealed)));
  }
  await channel.send({ ...start }, utf8(bundle));
  const message = await first.promise;
  let ids = 0;

  async function raw(id: string, request: Uint8Array, wallMs = 10_000): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const used = crediting(BODY_WINDOW_BYTES, (bytes) => void channel.send({ op: 'credit', id, call: 0, bytes }));
    waiting.set(id, { pieces: [], status: undefined, used, resolve, reject });
    await channel.send({ op: 'invoke', id, wallMs }, request);
    return promise;
  }
  return {
    pid: child.pid ?? -1,
    first: message,
    startMs: performance.now() - began,
    exited,
    raw,
    call({ path = '/', method = 'GET', headers = [], body = '', wallMs, id = `call-${++ids}` } = {}) {
      const bytes = typeof body === 'string' ? utf8(body) : body;
      return raw(
        id,
        encodeRequest({ method, scheme: 'https', authority: 'gateway.example', path, headers, body: bytes }),
        wallMs,
      );
    },
    abort: (id) => channel.send({ op: 'abort', id, code: 'CFN_ABORTED' }),
    async close() {
      channel.close();
      await exited;
    },
  };
}

function readAnswer(pieces: readonly Uint8Array[], status: number | undefined, done: Answer['done']): Answer {
  const decoder = createResponseDecoder();
  const events = pieces.flatMap((piece) => decoder.push(piece));
  const head = events.find((event) => event.type === 'head');
  const content = events.flatMap((event) => (event.type === 'content' ? [event.bytes] : []));
  return {
    status,
    headers: Object.fromEntries(head?.headers ?? []),
    body: new TextDecoder().decode(concatBytes(...content)),
    frames: pieces.length,
    largestFrame: Math.max(0, ...pieces.map((piece) => piece.length)),
    done,
  };
}

/** A working engine for one model that doubles float32 tensors: input `x`, output `y`. */
export async function startDoublingEngine(): Promise<{
  socketPath: string;
  calls: () => number;
  dropConnections: () => void;
  stall: (on: boolean) => void;
  close: () => void;
}> {
  const dir = mkdtempSync(join(tmpdir(), 'cfn-engine-'));
  const socketPath = join(dir, 'engine.sock');
  const channels = new Set<Channel>();
  let [calls, stalled] = [0, false];
  const server = createServer((socket) => {
    const channel = openChannel(
      socket,
      ({ header, payload }) => {
        const { id, tensors } = header as unknown as SandboxToEngine;
        calls += 1;
        if (stalled) return;
        const values = new Float32Array(payload.buffer);
        if (values.includes(-1))
          return void channel.send({ op: 'failed', id, code: 'CFN_MODEL_INPUT', message: 'the model refuses -1' });
        const doubled = new Uint8Array(values.map((value) => value * 2).buffer);
        const [x] = tensors;
        void channel.send(
          { op: 'result', id, tensors: [{ ...x, name: 'y' }], engineMs: 1.5, bytesOverwritten: payload.length * 2 },
          doubled,
        );
      },
      () => channels.delete(channel),
    );
    channels.add(channel);
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  return {
    socketPath,
    calls: () => calls,
    stall: (on) => (stalled = on),
    dropConnections: () => channels.forEach((channel) => channel.close()),
    close() {
      channels.forEach((channel) => channel.close());
      server.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** Handler bodies by path, each `(request, env, ctx) => …`, as the source of one module. */
export function moduleOf(handlers: Readonly<Record<string, string>>, top = ''): string {
  const entries = Object.entries(handlers).map(([path, code]) => `${JSON.stringify(path)}: ${code}`);
  return `${top}\nconst handlers = {${entries.join(',\n')}};
export default { fetch(request, env, ctx) { return handlers[new URL(request.url).pathname](request, env, ctx); } };`;
}
