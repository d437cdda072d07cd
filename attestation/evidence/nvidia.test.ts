import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { concatBytes, fromHex, toHex, utf8 } from '../../proto/index.ts';
import { certifiedFirmwareId, readDevice } from './gpu-certificate.ts';
import { OPAQUE, parseGpuReport, parseNvidiaReport, parseSwitchReport } from './nvidia.ts';
import { parsePemChain } from './x509.ts';

const read = (path: string): Uint8Array<ArrayBuffer> =>
  new Uint8Array(readFileSync(new URL(`../vectors/nvidia/${path}`, import.meta.url)));
const chain = (name: string) => parsePemChain(new TextDecoder().decode(read(`chains/${name}.pem`)));
const H100 = read('reports/h100-550.90.07.bin');
const RECORD = 37 + 8;
const BLOCK = 55;

function changed(...bytes: readonly (readonly [at: number, value: number])[]): Uint8Array {
  const copy = H100.slice();
  for (const [at, value] of bytes) copy[at] = value;
  return copy;
}

/** The H100's report with other opaque fields; its signature is of no matter to the parser. */
function withOpaque(...fields: readonly (readonly [type: number, value: Uint8Array])[]): Uint8Array {
  const u16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8);
  const opaque = concatBytes(...fields.map(([type, value]) => concatBytes(u16(type), u16(value.length), value)));
  const head = H100.subarray(0, RECORD + 3520 + 32);
  return concatBytes(head, u16(opaque.length), opaque, new Uint8Array(96));
}
const DRIVER = [OPAQUE.driverVersion, utf8('575.32\0')] as const;

describe('parseNvidiaReport', () => {
  test.each([
    ['h100-535.86.09', 'gpu', 64],
    ['h100-550.90.07', 'gpu', 64],
    ['h100-560.00.badsig', 'gpu', 64],
    ['h100-570.124.03', 'gpu', 64],
    ['gb100-575.32', 'gpu', 64],
    ['ls10-switch', 'switch', 31],
  ])('reads %s', (file, kind, blocks) => {
    const report = parseNvidiaReport(read(`reports/${file}.bin`));
    expect(report).toMatchObject({ kind });
    expect(report.measurements).toHaveLength(blocks);
    expect(report.signature).toHaveLength(96);
  });

  test('takes one zero byte behind the signature, and no more', () => {
    expect(parseGpuReport(concatBytes(H100, Uint8Array.of(0))).signature).toEqual(H100.subarray(-96));
    for (const more of [[1], [0, 0], [0, 1]])
      expect(() => parseGpuReport(Uint8Array.from([...H100, ...more]))).toThrow(
        expect.objectContaining({ reason: 'parse/leftover' }),
      );
  });

  test('refuses every report cut short', () => {
    for (let length = 1; length < H100.length; length++)
      expect(() => parseGpuReport(H100.subarray(0, length))).toThrow(
        expect.objectContaining({ reason: 'parse/truncated' }),
      );
    expect(() => parseGpuReport(new Uint8Array())).toThrow(expect.objectContaining({ reason: 'parse/empty' }));
    expect(() => parseGpuReport(new Uint8Array(65 * 1024))).toThrow(
      expect.objectContaining({ reason: 'parse/length' }),
    );
  });

  test.each([
    ['another SPDM version asked', changed([0, 0x12]), 'parse/unsupported-version'],
    ['another SPDM version answered', changed([37, 0x12]), 'parse/unsupported-version'],
    ['another request', changed([1, 0xe1]), 'parse/magic'],
    ['a request without signature', changed([2, 0]), 'parse/magic'],
    ['a request for one block', changed([3, 1]), 'parse/magic'],
    ['another response', changed([38, 0x61]), 'parse/magic'],
    ['fewer blocks than the record has', changed([41, 63]), 'parse/length'],
    ['more blocks than the record has', changed([41, 65]), 'parse/length'],
    ['a longer record', changed([42, 0xc1]), 'parse/truncated'],
    ['a huge record', changed([44, 0xff]), 'parse/truncated'],
    ['one index twice', changed([RECORD + BLOCK, 1]), 'parse/duplicate'],
    ['the index 0', changed([RECORD, 0]), 'parse/length'],
    ['another specification', changed([RECORD + 1, 2]), 'parse/magic'],
    ['a value longer than its block', changed([RECORD + 5, 49]), 'parse/length'],
    ['a value shorter than its block', changed([RECORD + 5, 47]), 'parse/length'],
    ['an opaque field twice', withOpaque(DRIVER, DRIVER), 'parse/duplicate'],
    [
      'an opaque field past the end',
      withOpaque(DRIVER).fill(0xff, RECORD + 3520 + 34 + 2, RECORD + 3520 + 34 + 4),
      'parse/length',
    ],
    ['a firmware id of another size', withOpaque(DRIVER, [OPAQUE.fwid, new Uint8Array(32)]), 'parse/length'],
    ['an NVDEC0 state of two bytes', withOpaque(DRIVER, [OPAQUE.nvdec0, new Uint8Array(2)]), 'parse/length'],
    ['switch ids that are cut', withOpaque(DRIVER, [OPAQUE.switchPdis, new Uint8Array(17)]), 'parse/length'],
    ['a driver version that is no text', withOpaque([OPAQUE.driverVersion, fromHex('0a')]), 'parse/length'],
    ['bytes behind the end of a text', withOpaque([OPAQUE.driverVersion, fromHex('310032')]), 'parse/leftover'],
    ['a VBIOS version that is short', withOpaque(DRIVER, [OPAQUE.vbiosVersion, new Uint8Array(4)]), 'parse/length'],
  ])('refuses %s', (_name, bytes, reason) => {
    expect(() => parseNvidiaReport(bytes)).toThrow(expect.objectContaining({ reason }));
  });

  test('keeps opaque fields that nobody knows', () => {
    expect(parseGpuReport(withOpaque(DRIVER, [999, fromHex('01')])).opaque.get(999)).toEqual(fromHex('01'));
  });

  test('reads the modes, and calls others unknown', () => {
    const mode = (flag: string): unknown =>
      parseGpuReport(withOpaque(DRIVER, [OPAQUE.featureFlag, fromHex(flag)])).featureMode;
    expect(['0000', '0100', '0200', '0300'].map(mode)).toEqual([
      'single-passthrough',
      'multi-gpu-passthrough',
      'protected-pcie',
      'unknown',
    ]);
    const state = (value: string): unknown =>
      parseGpuReport(withOpaque(DRIVER, [OPAQUE.nvdec0, fromHex(value)])).nvdec0;
    expect(['aa', '55', '00'].map(state)).toEqual(['on', 'off', 'unknown']);
  });

  test('does not take one device for another', () => {
    const unsupported = expect.objectContaining({ reason: 'parse/unsupported-tee' });
    expect(() => parseSwitchReport(H100)).toThrow(unsupported);
    expect(() => parseGpuReport(read('reports/ls10-switch.bin'))).toThrow(unsupported);
  });
});

describe('device chains', () => {
  test.each([
    ['h100-550.90.07', 'HOPPER', 'GH100'],
    ['gb100-575.32', 'BLACKWELL', 'GB100'],
    ['ls10-switch', 'LS10', 'LS10'],
  ])('%s names its family', (file, family, chip) => {
    expect(readDevice(chain(file))).toMatchObject({ family, chip });
  });

  test('of several chips are refused', () => {
    const [h100, gb100] = [chain('h100-550.90.07'), chain('gb100-575.32')];
    for (const mixed of [
      [...h100.slice(0, 1), ...gb100.slice(1)],
      [...h100.slice(0, 3), ...gb100.slice(3)],
      h100.slice(-1),
      [],
    ])
      expect(() => readDevice(mixed)).toThrow(expect.objectContaining({ reason: 'certificate/wrong-product' }));
    const ls10 = chain('ls10-switch');
    expect(() => readDevice([...ls10.slice(0, 3), ...gb100.slice(3)])).toThrow(
      expect.objectContaining({ reason: 'certificate/wrong-product' }),
    );
  });

  test('name the firmware id that the report has', () => {
    for (const file of ['h100-550.90.07', 'h100-570.124.03', 'gb100-575.32']) {
      const [leaf, ca] = chain(file);
      if (leaf === undefined || ca === undefined) throw new RangeError('five');
      const { fwid } = parseGpuReport(read(`reports/${file}.bin`));
      expect(toHex(certifiedFirmwareId(leaf) ?? new Uint8Array())).toBe(toHex(fwid ?? Uint8Array.of(1)));
      expect(certifiedFirmwareId(ca)).toBeUndefined();
    }
  });

  test('with a broken firmware id are refused', () => {
    for (const [file, oid] of [
      ['h100-550.90.07', '2.23.133.5.4.1'],
      ['gb100-575.32', '2.23.133.5.4.1.1'],
    ] as const) {
      const [leaf] = chain(file);
      const value = leaf?.extensions.get(oid);
      if (leaf === undefined || value === undefined) throw new RangeError('a leaf with a firmware id');
      for (let length = 0; length < value.length; length++) {
        const extensions = new Map([[oid, value.subarray(0, length)]]);
        expect(() => certifiedFirmwareId({ ...leaf, extensions })).toThrow(
          expect.objectContaining({ reason: 'parse/der' }),
        );
      }
    }
  });
});
