import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  addModel,
  connectSandbox,
  loadModel,
  sealTestModel,
  startTestEngine,
  type TestEngine,
  type TestModel,
} from './engine.harness.ts';

/** Counts where `needle` lies in the writable memory of a process, through /proc/PID/mem (proc(5)). */
function countInMemory(pid: number, needle: Uint8Array): number {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  const piece = Buffer.alloc(16 * 1024 * 1024);
  let count = 0;
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'utf8').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      if (from === undefined || to === undefined) continue;
      const end = Number.parseInt(to, 16);
      // Pieces overlap, so that a needle on the border is seen.
      for (let at = Number.parseInt(from, 16); at < end; at += piece.length - needle.length + 1) {
        let read = 0;
        try {
          read = readSync(memory, piece, 0, Math.min(piece.length, end - at), at);
        } catch {
          break; // guard pages and [vvar] cannot be read
        }
        const bytes = piece.subarray(0, read);
        for (let found = bytes.indexOf(needle); found >= 0; found = bytes.indexOf(needle, found + 1)) count += 1;
      }
    }
  } finally {
    closeSync(memory);
  }
  return count;
}

const LENGTH = 4096;
let dir: string;
let model: TestModel;
let weights: Buffer;
let engine: TestEngine;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cfn-memory-'));
  weights = Buffer.alloc(4 * LENGTH);
  weights.set(marker(), 64);
  await writeFile(join(dir, 'add.onnx'), addModel(LENGTH, [['location', 'w.bin']]));
  await writeFile(join(dir, 'add.bin'), weights);
  model = await sealTestModel(join(dir, 'blobs'), [
    { path: 'model.onnx', source: join(dir, 'add.onnx') },
    { path: 'w.bin', source: join(dir, 'add.bin') },
  ]);
  engine = startTestEngine();
});
afterEach(async () => {
  engine.close();
  await engine.ended;
  await rm(dir, { recursive: true, force: true });
});

/** 32 random bytes that are 8 finite floats. */
function marker(): Buffer {
  return Buffer.from(Float32Array.from({ length: 8 }, () => (randomBytes(4).readInt32LE() / 2 ** 31) * 1000).buffer);
}

describe('the memory of an engine', () => {
  test('holds the weights once, and the data key no more', async () => {
    expect(await loadModel(engine, model)).toMatchObject({ op: 'loaded' });
    expect(countInMemory(engine.pid, weights.subarray(64, 96))).toBe(1);
    expect(countInMemory(engine.pid, model.dataKey)).toBe(0);
  });

  test('holds nothing of a load that was refused', async () => {
    const lastByte = (bytes: Buffer): Buffer => {
      bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 1, bytes.length - 1);
      return bytes;
    };
    // The graph is loaded whole, and the weights are opened before their tag turns out to be wrong.
    let files = 0;
    const tamper = (bytes: Buffer): Buffer => (++files === 2 ? lastByte(bytes) : bytes);
    expect(await loadModel(engine, model, { tamper })).toMatchObject({ op: 'failed', code: 'CFN_ARTIFACT_ALTERED' });
    process.kill(engine.pid, 'SIGSTOP'); // it ends half a second later
    expect(countInMemory(engine.pid, weights.subarray(64, 96))).toBe(0);
    expect(countInMemory(engine.pid, model.dataKey)).toBe(0);
    process.kill(engine.pid, 'SIGCONT');
    expect(await engine.ended).toBe(1);
  });

  test('holds nothing of a call after its answer', async () => {
    await loadModel(engine, model);
    const path = join(dir, 'engine.sock');
    await engine.ask({ op: 'listen', path });
    const sandbox = await connectSandbox(path);
    const inputs = marker();
    const data = new Float32Array(LENGTH);
    new Uint8Array(data.buffer).set(inputs, 400);
    const { header, payload } = await sandbox.run([{ name: 'x', type: 'float32', dims: [LENGTH], data }]);
    expect(header.op).toBe('result');
    expect(Buffer.from(payload.buffer, 400, 32).equals(inputs)).toBe(true); // W is zero there: the output has the marker as well
    await sandbox.run([]); // the answer has been sent and overwritten when the next one comes
    expect(countInMemory(engine.pid, inputs)).toBe(0);
  });

  test('holds nothing of a refused call', async () => {
    await loadModel(engine, model);
    const path = join(dir, 'engine.sock');
    await engine.ask({ op: 'listen', path });
    const sandbox = await connectSandbox(path);
    const inputs = marker();
    const tensor = { name: 'x', type: 'float32' as const, dims: [9], data: new Float32Array(9) };
    new Uint8Array(tensor.data.buffer).set(inputs);
    expect((await sandbox.run([tensor])).header).toMatchObject({ op: 'failed' });
    expect(countInMemory(engine.pid, inputs)).toBe(0);
  });
});
