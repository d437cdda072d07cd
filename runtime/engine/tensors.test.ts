import { Tensor } from 'onnxruntime-node';
import { describe, expect, test } from 'vitest';
import type { TensorHeader, TensorShape, TensorType } from '../ipc/messages.ts';
import { readTensors, writeTensors } from './tensors.ts';

const REFUSED = expect.objectContaining({ code: 'CFN_MODEL_INPUT' });
const BYTES: Record<TensorType, number> = {
  float32: 4,
  float64: 8,
  float16: 2,
  int8: 1,
  uint8: 1,
  int16: 2,
  uint16: 2,
  int32: 4,
  uint32: 4,
  int64: 8,
  uint64: 8,
  bool: 1,
};

function read(
  type: TensorType,
  dims: readonly number[],
  want: TensorShape['dims'],
  payload = new Uint8Array(dims.reduce((a, b) => a * b, BYTES[type])),
) {
  const header: TensorHeader = { name: 'x', type, dims, bytes: payload.length };
  return readTensors(payload, [header], [{ name: 'x', type, dims: want }]);
}

function memoryOf(tensor: Tensor | undefined): [ArrayBufferLike, offset: number, length: number] {
  if (tensor === undefined || !ArrayBuffer.isView(tensor.data)) throw new Error('no tensor of numbers');
  return [tensor.data.buffer, tensor.data.byteOffset, tensor.data.length];
}

describe('readTensors', () => {
  test.each(Object.keys(BYTES) as TensorType[])('carries %s without a copy', (type) => {
    const payload = new Uint8Array(2 * 3 * BYTES[type]);
    const { feeds, copies } = read(type, [2, 3], ['n', 3], payload);
    expect(copies).toEqual([]);
    expect(memoryOf(feeds['x'])).toEqual([payload.buffer, 0, 6]);
    expect([feeds['x']?.type, feeds['x']?.dims]).toEqual([type, [2, 3]]);
  });

  test('copies what is not aligned, and only that', () => {
    const payload = Uint8Array.from({ length: 1 + 8 + 3 }, (_, i) => i);
    const headers: TensorHeader[] = [
      { name: 'a', type: 'uint8', dims: [1], bytes: 1 },
      { name: 'b', type: 'int64', dims: [1], bytes: 8 },
      { name: 'c', type: 'int8', dims: [3], bytes: 3 },
    ];
    const { feeds, copies } = readTensors(payload, headers, headers);
    expect(copies.map((copy) => [...copy])).toEqual([[1, 2, 3, 4, 5, 6, 7, 8]]);
    expect(memoryOf(feeds['b'])[0]).toBe(copies[0]?.buffer);
    expect(memoryOf(feeds['c'])[0]).toBe(payload.buffer);
  });

  test('takes empty tensors where a dimension is free, and any shape where ORT knows none', () => {
    expect(read('float32', [0, 3], ['', 3]).feeds['x']?.dims).toEqual([0, 3]);
    expect(read('float32', [2, 2], []).feeds['x']?.dims).toEqual([2, 2]);
    expect(read('float32', [4], [-1]).feeds['x']?.dims).toEqual([4]);
    expect(() => read('float32', [0], [3])).toThrow(REFUSED);
  });

  test('refuses a bool that is neither 0 nor 1', () => {
    expect(() => read('bool', [2], [2], Uint8Array.of(0, 1))).not.toThrow();
    expect(() => read('bool', [2], [2], Uint8Array.of(1, 2))).toThrow(REFUSED);
  });

  test('refuses names that objects have of themselves', () => {
    const headers: TensorHeader[] = [{ name: '__proto__', type: 'uint8', dims: [1], bytes: 1 }];
    expect(() => readTensors(new Uint8Array(1), headers, [{ name: 'x', type: 'uint8', dims: [1] }])).toThrow(REFUSED);
  });
});

describe('writeTensors', () => {
  test('gives views of the outputs that were asked for', () => {
    const y = new Tensor('float32', Float32Array.of(1, 2), [1, 2]);
    const { headers, bytes } = writeTensors({ y, z: y }, ['y']);
    expect(headers).toEqual([{ name: 'y', type: 'float32', dims: [1, 2], bytes: 8 }]);
    expect(bytes[0]?.buffer).toBe((y.data as Float32Array).buffer);
  });

  test('refuses an output that is no tensor of numbers', () => {
    expect(() => writeTensors({ y: new Tensor('string', ['a'], [1]) }, ['y'])).toThrow(
      expect.objectContaining({ code: 'CFN_ENGINE_FAILED' }),
    );
    expect(() => writeTensors({}, ['y'])).toThrow(expect.objectContaining({ code: 'CFN_ENGINE_FAILED' }));
  });
});
