import { spawn } from 'node:child_process';
import { createConnection, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { folderBlobStore, sealModel, type BlobStore } from '../../artifacts/index.ts';
import {
  generateSealingKeyPair,
  parseModelPackage,
  sealTo,
  wrappedKeyInfo,
  type ModelPackage,
  type Sealed,
} from '../../proto/index.ts';
import { ENVIRONMENT } from '../agent/child-process.ts';
import { openChannel, type Frame } from '../ipc/channel.ts';
import type {
  AgentToEngine,
  EngineToAgent,
  EngineToSandbox,
  SandboxToEngine,
  TensorHeader,
  TensorType,
} from '../ipc/messages.ts';

/** What the tests of the engine share: the real process, sealed models, and the two who talk to it. */
const CHALLENGE = 'c'.repeat(43);

export interface TestModel {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly package: ModelPackage;
  readonly digest: string;
  readonly dataKey: Uint8Array;
  readonly store: BlobStore;
}

export async function sealTestModel(
  dir: string,
  files: readonly { path: string; source: string }[],
): Promise<TestModel> {
  const store = folderBlobStore(dir);
  const kms = { url: 'http://127.0.0.1:9000', publicKey: (await generateSealingKeyPair()).publicKey };
  const { manifestBytes, digest, dataKey } = await sealModel({ model: 'acme/test@1', files, kms, store });
  return { bytes: manifestBytes, package: await parseModelPackage(manifestBytes), digest, dataKey, store };
}

export interface TestEngine {
  readonly pid: number;
  /** Exit code, or the signal's name. */
  readonly ended: Promise<number | string>;
  readonly exited: () => boolean;
  send(message: AgentToEngine | { op: string }, payload?: Uint8Array): Promise<void>;
  /** Sends, and waits for the next message. */
  ask(message: AgentToEngine, payload?: Uint8Array): Promise<EngineToAgent>;
  next(): Promise<EngineToAgent>;
  close(): void;
}

export function startTestEngine(flags: readonly string[] = ['--intra-op-threads', '1']): TestEngine {
  const child = spawn(process.execPath, [fileURLToPath(new URL('main.ts', import.meta.url)), ...flags], {
    env: ENVIRONMENT.engine,
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  let exited = false;
  const ended = new Promise<number | string>((resolve) => {
    child.on('exit', (code, signal) => {
      exited = true;
      resolve(code ?? signal ?? 'unknown');
    });
  });
  const { next, onFrame } = mailbox<EngineToAgent>(ended.then((how) => new Error(`the engine ended with ${how}`)));
  const channel = openChannel(
    child.stdio[3] as Socket,
    ({ header }) => onFrame(header as unknown as EngineToAgent),
    () => undefined,
  );
  const send: TestEngine['send'] = (message, payload) => channel.send({ ...message }, ...(payload ? [payload] : []));
  return {
    pid: child.pid ?? -1,
    ended,
    exited: () => exited,
    send,
    next,
    async ask(message, payload) {
      await send(message, payload);
      return next();
    },
    close: () => channel.close(),
  };
}

export interface LoadOptions {
  readonly leaseMs?: number;
  readonly wrappedKey?: (wrappingKey: string) => Promise<Sealed>;
  readonly digest?: string;
  /** What a malicious store or agent makes of a file's ciphertext. */
  readonly tamper?: (ciphertext: Buffer) => Buffer;
}

export const wrapKey = (wrappingKey: string, model: TestModel, dataKey = model.dataKey): Promise<Sealed> =>
  sealTo(wrappingKey, dataKey, wrappedKeyInfo(model.digest, CHALLENGE));

/** hello and load. @returns `loaded` or `failed` */
export async function loadModel(
  engine: TestEngine,
  model: TestModel,
  options: LoadOptions = {},
): Promise<EngineToAgent> {
  const hello = await engine.ask({ op: 'hello' });
  if (hello.op !== 'hello') throw new Error(`unexpected ${hello.op}`);
  const wrappedKey = await (options.wrappedKey ?? ((key) => wrapKey(key, model)))(hello.wrappingKey);
  const digest = options.digest ?? model.digest;
  await engine.send(
    { op: 'load', digest, wrappedKey, challenge: CHALLENGE, leaseMs: options.leaseMs ?? 60_000 },
    model.bytes,
  );
  for (const { path, ciphertextDigest } of model.package.files) {
    const pieces: Uint8Array[] = [];
    for await (const piece of await model.store.get(ciphertextDigest)) pieces.push(piece);
    const ciphertext = (options.tamper ?? ((bytes) => bytes))(Buffer.concat(pieces));
    for (let at = 0; at < ciphertext.length; at += 1_000_000) {
      await engine.send({ op: 'ciphertext', path, end: false }, ciphertext.subarray(at, at + 1_000_000));
    }
    await engine.send({ op: 'ciphertext', path, end: true });
  }
  return engine.next();
}

export interface TestTensor {
  readonly name: string;
  readonly type: TensorType;
  readonly dims: readonly number[];
  readonly data: ArrayBufferView;
}
export interface RunReply {
  readonly header: EngineToSandbox;
  readonly payload: Uint8Array<ArrayBuffer>;
}
export interface TestSandbox {
  run(tensors: readonly TestTensor[], outputs?: readonly string[]): Promise<RunReply>;
  /** Sends a frame as it is. */
  raw(header: SandboxToEngine | { op: string }, payload: Uint8Array): Promise<void>;
  next(): Promise<RunReply>;
  /** Reads nothing from here on. */
  pause(): void;
  readonly closed: Promise<void>;
  close(): void;
}

export async function connectSandbox(path: string): Promise<TestSandbox> {
  const socket = createConnection(path);
  await new Promise<void>((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  const { promise: closed, resolve } = Promise.withResolvers<void>();
  const { next, onFrame } = mailbox<RunReply>(closed.then(() => new Error('the engine closed the connection')));
  const channel = openChannel(
    socket,
    ({ header, payload }: Frame) => onFrame({ header: header as unknown as EngineToSandbox, payload }),
    () => resolve(),
  );
  let lastId = 0;
  return {
    raw: (header, payload) => channel.send({ ...header }, payload),
    next,
    pause: () => void socket.pause(),
    closed,
    close: () => channel.close(),
    async run(tensors, outputs) {
      const views = tensors.map(({ data }) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
      const headers: TensorHeader[] = tensors.map(({ name, type, dims, data }) => ({
        name,
        type,
        dims,
        bytes: data.byteLength,
      }));
      await channel.send({ op: 'run', id: ++lastId, tensors: headers, ...(outputs ? { outputs } : {}) }, ...views);
      return next();
    },
  };
}

/** Messages in order, for who waits; a wait fails when the other side is gone. */
function mailbox<T>(gone: Promise<Error>): { next: () => Promise<T>; onFrame: (message: T) => void } {
  const arrived: T[] = [];
  const waiting: { resolve: (message: T) => void; reject: (error: Error) => void }[] = [];
  let error: Error | undefined;
  void gone.then((reason) => {
    error = reason;
    for (const { reject } of waiting.splice(0)) reject(reason);
  });
  return {
    onFrame(message) {
      const waiter = waiting.shift();
      if (waiter === undefined) arrived.push(message);
      else waiter.resolve(message);
    },
    next() {
      const message = arrived.shift();
      if (message !== undefined) return Promise.resolve(message);
      if (error !== undefined) return Promise.reject(error);
      return new Promise((resolve, reject) => waiting.push({ resolve, reject }));
    },
  };
}

/**
 * Bytes of an ONNX model y = x + W over `length` float32, where W lies in another file. Field numbers: onnx.proto3.
 *
 * @param tensors more than one: y = x + W0 + W1 …, which lie one after the other in that file
 */
export function addModel(
  length: number,
  external: readonly (readonly [key: string, value: string])[],
  tensors = 1,
): Uint8Array<ArrayBuffer> {
  const type = message(2, message(1, number(1, 1), message(2, message(1, number(1, length)))));
  const parts = Array.from({ length: tensors }, (_, i) => {
    const place: typeof external =
      tensors === 1
        ? []
        : [
            ['offset', `${i * length * 4}`],
            ['length', `${length * 4}`],
          ];
    const weights = [
      number(1, length),
      number(2, 1),
      text(8, `W${i}`),
      ...[...external, ...place].map(([key, value]) => message(13, text(1, key), text(2, value))),
      number(14, 1),
    ];
    const [from, to] = [i === 0 ? 'x' : `y${i - 1}`, i === tensors - 1 ? 'y' : `y${i}`];
    const node = message(1, text(1, from), text(1, `W${i}`), text(2, to), text(4, 'Add'));
    return { node, weights: message(5, ...weights) };
  });
  const graph = message(
    7,
    ...parts.map(({ node }) => node),
    text(2, 'add'),
    ...parts.map(({ weights }) => weights),
    message(11, text(1, 'x'), type),
    message(12, text(1, 'y'), type),
  );
  return new Uint8Array(Buffer.concat([number(1, 8), graph, message(8, text(1, ''), number(2, 17))]));
}

function varint(value: number): Buffer {
  const out: number[] = [];
  for (; value > 0x7f; value = Math.floor(value / 128)) out.push((value % 128) | 0x80);
  return Buffer.from([...out, value]);
}
const number = (field: number, value: number): Buffer => Buffer.concat([varint(field * 8), varint(value)]);
const text = (field: number, value: string): Buffer => message(field, Buffer.from(value));
function message(field: number, ...parts: readonly Uint8Array[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([varint(field * 8 + 2), varint(body.length), body]);
}
