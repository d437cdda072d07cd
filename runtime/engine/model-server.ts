import { createServer, type Server, type Socket } from 'node:net';
import { chmod } from 'node:fs/promises';
import { z } from 'zod';
import { CfnError, toCfnError, IPC_PAYLOAD_BYTES_MAX } from '../../proto/index.ts';
import { openChannel, type Channel, type Frame } from '../ipc/channel.ts';
import type { EngineToSandbox, SandboxToEngine } from '../ipc/messages.ts';
import type { Lease } from './lease.ts';
import type { ModelSession } from './model-session.ts';
import { isTensorType, readTensors, writeTensors, type ReadTensors } from './tensors.ts';

/** Connections on one socket: a sandbox needs one. */
const CONNECTIONS_MAX = 8;
/** Runs of one connection that wait, run, or are being answered; it is read on only when there are fewer. */
const RUNS_PER_CONNECTION = 4;
/** Sockets at once: one for each function version that uses the model. */
const SOCKETS_MAX = 1024;

const runSchema = z.strictObject({
  op: z.literal('run'),
  id: z.int().nonnegative(),
  tensors: z
    .array(
      z.strictObject({
        name: z.string().max(1024),
        type: z.custom<SandboxToEngine['tensors'][number]['type']>(
          (type) => typeof type === 'string' && isTensorType(type),
        ),
        dims: z.array(z.int().nonnegative()).max(64),
        bytes: z.int().nonnegative().max(IPC_PAYLOAD_BYTES_MAX),
      }),
    )
    .max(1024),
  outputs: z.array(z.string().max(1024)).max(1024).optional(),
});

export interface ModelServer {
  /** Serves the model on a Unix socket with mode 0600. */
  listen(path: string): Promise<void>;
  /** Closes the socket and its connections. A path that nobody listens on is no error. */
  unlisten(path: string): void;
  close(): void;
}

interface Run {
  readonly connection: Connection;
  readonly id: number;
  readonly header: Frame['header'];
  readonly payload: Uint8Array<ArrayBuffer>;
}
interface Connection {
  readonly channel: Channel;
  /** Runs that wait, run, or are being answered. */
  pending: number;
  open: boolean;
}

/** Runs what sandboxes ask for, first come first served: ORT runs on this thread, one run at a time. */
export function modelServer(
  session: ModelSession,
  deps: {
    readonly lease: Lease;
    readonly monotonicNs: () => bigint;
    /** The session is worn and nobody waits for anything. */
    readonly onWorn: () => void;
  },
): ModelServer {
  const queue: Run[] = [];
  let running = false;
  /** Runs of all connections that wait, run, or are being answered. */
  let pending = 0;

  async function work(): Promise<void> {
    running = true;
    for (let run = queue.shift(); run !== undefined; run = queue.shift()) {
      deps.lease.check();
      if (run.connection.open) await runOnce(run);
      else finish(run.connection, [run.payload]);
    }
    running = false;
  }

  async function runOnce(run: Run): Promise<void> {
    let inputs: ReadTensors | undefined;
    let outputs: Uint8Array[] = [];
    let reply: EngineToSandbox;
    try {
      const { tensors, outputs: wanted } = parseRun(run.header);
      const names = outputNames(session, wanted);
      inputs = readTensors(run.payload, tensors, session.inputs);
      const startNs = deps.monotonicNs();
      const result = await session.run(inputs.feeds, names);
      const engineMs = Number(deps.monotonicNs() - startNs) / 1e6;
      deps.lease.check();
      const written = writeTensors(result, names);
      outputs = written.bytes;
      checkSize(outputs);
      reply = {
        op: 'result',
        id: run.id,
        tensors: written.headers,
        engineMs,
        bytesOverwritten: wipe([run.payload, ...inputs.copies]),
      };
    } catch (error) {
      wipe([run.payload, ...(inputs?.copies ?? []), ...outputs]);
      outputs = [];
      const { code, message } = toCfnError(error);
      reply = { op: 'failed', id: run.id, code, message };
    }
    // Not awaited: a sandbox that does not read must not hold up the others. Its own runs it does: see RUNS_PER_CONNECTION.
    const sent = (): void => finish(run.connection, outputs);
    run.connection.channel.send({ ...reply }, ...outputs).then(sent, sent);
  }

  /** The outputs have left this process, or never will. */
  function finish(connection: Connection, outputs: readonly Uint8Array[]): void {
    wipe(outputs);
    connection.pending -= 1;
    pending -= 1;
    if (session.worn && pending === 0) return deps.onWorn();
    if (connection.open && connection.pending < RUNS_PER_CONNECTION) connection.channel.resume();
  }

  function serve(socket: Socket, connections: Set<Connection>): void {
    const connection: Connection = { pending: 0, open: true, channel: openChannel(socket, onFrame, onClose) };
    connections.add(connection);
    function onFrame({ header, payload }: Frame): void {
      const id = header['id'];
      if (header.op !== 'run' || typeof id !== 'number' || !Number.isSafeInteger(id)) {
        payload.fill(0);
        connection.channel.close(); // no answer could name what it answers
        return;
      }
      queue.push({ connection, id, header, payload });
      connection.pending += 1;
      pending += 1;
      if (connection.pending >= RUNS_PER_CONNECTION) connection.channel.pause();
      if (!running) void work();
    }
    function onClose(): void {
      connection.open = false;
      connections.delete(connection);
    }
  }

  const sockets = new Map<string, { server: Server; connections: Set<Connection> }>();
  const unlisten = (path: string): void => {
    const socket = sockets.get(path);
    sockets.delete(path);
    socket?.server.close(); // unlinks the path
    for (const connection of socket?.connections ?? []) connection.channel.close();
  };
  return {
    async listen(path) {
      if (sockets.has(path) || sockets.size >= SOCKETS_MAX)
        throw new CfnError('CFN_ENGINE_FAILED', `the engine cannot listen on ${path} as well`);
      const connections = new Set<Connection>();
      const server = createServer((socket) => serve(socket, connections));
      server.maxConnections = CONNECTIONS_MAX;
      sockets.set(path, { server, connections });
      try {
        await new Promise<void>((resolve, reject) => server.once('error', reject).listen(path, resolve));
        await chmod(path, 0o600);
      } catch (cause) {
        unlisten(path);
        throw new CfnError(
          'CFN_ENGINE_FAILED',
          `the engine cannot listen on ${path}: ${(cause as NodeJS.ErrnoException).code ?? 'unknown'}`,
        );
      }
    },
    unlisten,
    close() {
      for (const path of sockets.keys()) unlisten(path);
    },
  };
}

function parseRun(header: Frame['header']): SandboxToEngine {
  const parsed = runSchema.safeParse(header);
  if (parsed.success) {
    const { outputs, ...run } = parsed.data;
    return outputs === undefined ? run : { ...run, outputs };
  }
  throw new CfnError(
    'CFN_MODEL_INPUT',
    `the call is malformed at ${parsed.error.issues[0]?.path.join('.') ?? 'its head'}`,
  );
}

function outputNames(session: ModelSession, wanted: readonly string[] | undefined): readonly string[] {
  const known = session.outputs.map(({ name }) => name);
  if (wanted === undefined) return known;
  const fits =
    wanted.length > 0 && new Set(wanted).size === wanted.length && wanted.every((name) => known.includes(name));
  if (!fits) throw new CfnError('CFN_MODEL_INPUT', `outputs asked for are some of ${known.join(', ')}, each once`);
  return wanted;
}

function checkSize(outputs: readonly Uint8Array[]): void {
  const total = outputs.reduce((sum, { length }) => sum + length, 0);
  if (total > IPC_PAYLOAD_BYTES_MAX)
    throw new CfnError('CFN_ENGINE_FAILED', `the outputs have ${total} bytes, over ${IPC_PAYLOAD_BYTES_MAX}`);
}

/** Overwrites with zeros. @returns bytes overwritten */
function wipe(buffers: readonly Uint8Array[]): number {
  for (const buffer of buffers) buffer.fill(0);
  return buffers.reduce((sum, { length }) => sum + length, 0);
}
