import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { checkExternalData } from './external-data.ts';
import { addModel } from './engine.harness.ts';

const files = new Map([
  ['model.onnx', new Uint8Array(10)],
  ['w.bin', new Uint8Array(40)],
]);
const FAILED = expect.objectContaining({ code: 'CFN_ENGINE_FAILED' });
const wrap = (field: number, body: Uint8Array): Buffer => {
  const head = [(field * 8 + 2) & 0x7f, (field * 8 + 2) >> 7];
  if (head[1] !== 0) head[0] = (head[0] ?? 0) | 0x80;
  return Buffer.concat([
    Buffer.from(head[1] === 0 ? head.slice(0, 1) : head),
    Buffer.from([(body.length & 0x7f) | 0x80, body.length >> 7]),
    body,
  ]);
};
const strayTensor = wrap(13, Buffer.concat([wrap(1, Buffer.from('location')), wrap(2, Buffer.from('/etc/passwd'))]));

describe('checkExternalData', () => {
  test('takes models without external data, and with data in the package', () => {
    const silero = fileURLToPath(
      new URL('../../node_modules/@ricky0123/vad-web/dist/silero_vad_v5.onnx', import.meta.url),
    );
    expect(() => checkExternalData(readFileSync(silero), files)).not.toThrow();
    expect(() =>
      checkExternalData(
        addModel(10, [
          ['location', 'w.bin'],
          ['offset', '0'],
          ['length', '40'],
        ]),
        files,
      ),
    ).not.toThrow();
  });

  test.each<[string, [string, string][]]>([
    ['no location', []],
    ['a file that is not in the package', [['location', 'other.bin']]],
    ['a path', [['location', '../w.bin']]],
    [
      'a memory address (ORT’s own mark)',
      [
        ['location', '*/_ORT_MEM_ADDR_/*'],
        ['offset', '4096'],
      ],
    ],
    [
      'two locations',
      [
        ['location', 'w.bin'],
        ['location', '/etc/passwd'],
      ],
    ],
    [
      'an end past the file',
      [
        ['location', 'w.bin'],
        ['offset', '8'],
        ['length', '40'],
      ],
    ],
    [
      'a negative offset',
      [
        ['location', 'w.bin'],
        ['offset', '-8'],
        ['length', '8'],
      ],
    ],
    [
      'an offset that is too large',
      [
        ['location', 'w.bin'],
        ['offset', '9'.repeat(30)],
        ['length', '8'],
      ],
    ],
  ])('refuses %s', (_, external) => {
    expect(() => checkExternalData(addModel(10, external), files)).toThrow(FAILED);
  });

  test.each<[string, Uint8Array]>([
    ['an initializer', wrap(7, wrap(5, strayTensor))],
    ['a sparse initializer', wrap(7, wrap(15, wrap(1, strayTensor)))],
    ['an attribute of a node', wrap(7, wrap(1, wrap(5, wrap(5, strayTensor))))],
    ['a list in an attribute', wrap(7, wrap(1, wrap(5, wrap(10, strayTensor))))],
    ['a sparse attribute', wrap(7, wrap(1, wrap(5, wrap(22, wrap(2, strayTensor)))))],
    ['a graph in an attribute', wrap(7, wrap(1, wrap(5, wrap(6, wrap(5, strayTensor)))))],
    ['graphs in an attribute', wrap(7, wrap(1, wrap(5, wrap(11, wrap(5, strayTensor)))))],
    ['a function', wrap(25, wrap(7, wrap(5, wrap(5, strayTensor))))],
    ['the second of two graphs', Buffer.concat([wrap(7, new Uint8Array()), wrap(7, wrap(5, strayTensor))])],
  ])('finds external data in %s', (_, model) => {
    expect(() => checkExternalData(model, files)).toThrow(/not in the package/);
  });

  test.each<[string, number[]]>([
    ['a field that ends past the model', [0x3a, 5, 1]],
    ['a group', [0x3b, 0x3c]],
    ['a tag over 32 bits, which others cut', [0xba, 0x80, 0x80, 0x80, 0x80, 0x01, 0]],
    ['an endless number', Array.from({ length: 11 }, () => 0x80)],
  ])('refuses %s', (_, model) => {
    expect(() => checkExternalData(Uint8Array.from(model), files)).toThrow(FAILED);
  });

  test('refuses graphs in graphs without end', () => {
    let graph: Uint8Array = new Uint8Array();
    for (let i = 0; i < 60; i++) graph = wrap(1, wrap(5, wrap(6, graph)));
    expect(() => checkExternalData(wrap(7, graph), files)).toThrow(/nested/);
  });
});
