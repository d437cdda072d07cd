import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CfnError } from '../../proto/index.ts';
import { readVector } from '../verifier/amd/vectors.fixture.ts';
import { productOfCpu, productOfName, readTcb } from './amd-product.ts';
import { Refusal, type Reason } from './reasons.ts';
import { parseSnpReport } from './snp.ts';

const v5 = readVector('reports/milan-v5-gcp-x25519.bin');
const v2 = readVector('reports/milan-v2-trustee.bin');
const v3 = readVector('reports/genoa-v3-msft.bin');

function patched(
  report: Uint8Array,
  ...patches: readonly (readonly [offset: number, ...bytes: number[]])[]
): Uint8Array {
  const copy = Uint8Array.from(report);
  for (const [offset, ...bytes] of patches) copy.set(bytes, offset);
  return copy;
}

function reasonOf(run: () => unknown): Reason | undefined {
  try {
    run();
    return undefined;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return error.reason;
  }
}

describe('parseSnpReport', () => {
  test('reads every field of a version 5 report', () => {
    // Each field gets bytes of its own, so that no field can be read from another's place.
    const bytes = Uint8Array.from(v5);
    const fill = (offset: number, length: number, value: number): void => {
      bytes.fill(value, offset, offset + length);
    };
    const places: readonly (readonly [number, number, number])[] = [
      [0x04, 4, 0xa1],
      [0x10, 16, 0xa2],
      [0x20, 16, 0xa3],
      [0x30, 4, 0xff],
      [0x38, 8, 0xa4],
      [0x40, 8, 0xa5],
      [0x50, 64, 0xa6],
      [0x90, 48, 0xa7],
      [0xc0, 32, 0xa8],
      [0xe0, 48, 0xa9],
      [0x110, 48, 0xaa],
      [0x140, 32, 0xab],
      [0x160, 32, 0xac],
      [0x180, 8, 0xad],
      [0x1a0, 64, 0xae],
      [0x1e0, 8, 0xaf],
      [0x1f0, 8, 0xb0],
      [0x1f8, 8, 0xb1],
      [0x200, 8, 0xb2],
    ];
    for (const place of places) fill(...place);
    bytes.set([0x07, 0x06, 0x03 | 0x08, 0x03], 0x08); // ABI 6.7; SMT, reserved one, debugging; CXL..: bits 24, 25
    bytes.set([0x03 | (7 << 2)], 0x48);
    bytes.set([0x1a, 0x1f, 0x05], 0x188);
    bytes.set([1, 2, 3, 0, 4, 5, 6, 0], 0x1e8);
    const report = parseSnpReport(bytes);
    const all = (value: number, length: number): Uint8Array => new Uint8Array(length).fill(value);
    expect(report).toMatchObject({
      version: 5,
      guestSvn: 0xa1a1a1a1,
      familyId: all(0xa2, 16),
      imageId: all(0xa3, 16),
      vmpl: 0xffffffff,
      currentTcb: all(0xa4, 8),
      reportData: all(0xa6, 64),
      measurement: all(0xa7, 48),
      hostData: all(0xa8, 32),
      idKeyDigest: all(0xa9, 48),
      authorKeyDigest: all(0xaa, 48),
      reportId: all(0xab, 32),
      reportIdOfMigrationAgent: all(0xac, 32),
      reportedTcb: all(0xad, 8),
      cpu: { family: 0x1a, model: 0x1f, stepping: 5 },
      product: 'Turin',
      chipId: all(0xae, 64),
      committedTcb: all(0xaf, 8),
      currentFirmware: { major: 3, minor: 2, build: 1 },
      committedFirmware: { major: 6, minor: 5, build: 4 },
      launchTcb: all(0xb0, 8),
      launchMitigations: 0xb1b1b1b1b1b1b1b1n,
      currentMitigations: 0xb2b2b2b2b2b2b2b2n,
      authorKeyPresent: true,
      maskChipKey: true,
      signer: 'none',
      platformInfo: {
        bits: 0xa5a5a5a5a5a5a5a5n,
        flags: {
          smt: true,
          tsme: false,
          ecc: true,
          raplOff: false,
          ciphertextHiding: false,
          aliasCheckComplete: true,
          tio: true,
        },
      },
      guestPolicy: {
        bits: 0x30b0607n,
        abiMajor: 6,
        abiMinor: 7,
        flags: {
          smt: true,
          migrationAgent: false,
          debug: true,
          singleSocket: false,
          cxl: false,
          aes256Xts: false,
          raplOff: false,
          ciphertextHiding: true,
          pageSwapOff: true,
        },
      },
    });
    expect(report.signedBytes).toHaveLength(0x2a0);
  });

  test('turns the signature to big endian', () => {
    const { signature } = parseSnpReport(v3);
    expect(signature).toEqual(
      Uint8Array.from([...v3.slice(0x2a0, 0x2d0).reverse(), ...v3.slice(0x2e8, 0x318).reverse()]),
    );
  });

  test.each<[string, Uint8Array]>([
    ['version 4', patched(v3, [0, 4])],
    ['a VLEK', patched(v3, [0x48, 4])],
    ['platform info bits to come', patched(v3, [0x40, 0xff, 0xff, 0, 0, 0, 0, 0, 0x80])],
    ['Siena and Bergamo', patched(v3, [0x188, 0x19, 0xa0])],
    ['ABI versions', patched(v3, [0x08, 0xff, 0xff])],
  ])('takes %s', (_, bytes) => {
    expect(reasonOf(() => parseSnpReport(bytes))).toBeUndefined();
  });

  test.each<[string, Reason, Uint8Array]>([
    ['no bytes', 'parse/empty', new Uint8Array()],
    ['a byte less', 'parse/truncated', v3.subarray(0, 1183)],
    ['a byte more', 'parse/leftover', Uint8Array.from([...v3, 0])],
    ['version 1', 'parse/unsupported-version', patched(v3, [0, 1])],
    ['version 6', 'parse/unsupported-version', patched(v5, [0, 6])],
    ['version 258', 'parse/unsupported-version', patched(v2, [1, 1])],
    ['policy bit 17 off', 'parse/reserved', patched(v3, [0x0a, 1])],
    ['policy bit 26', 'parse/reserved', patched(v3, [0x0b, 4])],
    ['policy bit 63', 'parse/reserved', patched(v3, [0x0f, 0x80])],
    ['another algorithm', 'parse/unsupported-algorithm', patched(v3, [0x34, 2])],
    ['signer bits that mean nothing', 'parse/unsupported-key-type', patched(v3, [0x48, 2 << 2])],
    ['signer info bit 5', 'parse/reserved', patched(v3, [0x48, 0x20])],
    ['0x4c', 'parse/reserved', patched(v3, [0x4f, 1])],
    ['CPUID in version 2', 'parse/reserved', patched(v2, [0x188, 0x19])],
    ['0x18b', 'parse/reserved', patched(v3, [0x18b, 1])],
    ['0x19f', 'parse/reserved', patched(v3, [0x19f, 1])],
    ['0x1eb', 'parse/reserved', patched(v3, [0x1eb, 1])],
    ['0x1ef', 'parse/reserved', patched(v3, [0x1ef, 1])],
    ['mitigations before version 5', 'parse/reserved', patched(v3, [0x1f8, 1])],
    ['0x208', 'parse/reserved', patched(v5, [0x208, 1])],
    ['0x29f', 'parse/reserved', patched(v5, [0x29f, 1])],
    ['above R', 'parse/reserved', patched(v3, [0x2a0 + 48, 1])],
    ['above S', 'parse/reserved', patched(v3, [0x2a0 + 72 + 71, 1])],
    ['behind the signature', 'parse/reserved', patched(v3, [0x49f, 1])],
    ['an unknown family', 'parse/unsupported-tee', patched(v3, [0x188, 0x1b])],
    ['an unknown model', 'parse/unsupported-tee', patched(v3, [0x188, 0x19, 0x20])],
  ])('refuses %s', (_, reason, bytes) => {
    expect(reasonOf(() => parseSnpReport(bytes))).toBe(reason);
  });

  test('throws nothing but CfnErrors, whatever the bytes', () => {
    const parse = (bytes: Uint8Array): void => {
      try {
        parseSnpReport(bytes);
      } catch (error) {
        if (!(error instanceof CfnError)) throw error;
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 1300 }), parse));
    const mutation = fc.record({ report: fc.constantFrom(v2, v3, v5), at: fc.nat(1183), value: fc.nat(255) });
    fc.assert(
      fc.property(mutation, fc.nat(1184), ({ report, at, value }, length) =>
        parse(patched(report, [at, value]).subarray(0, length)),
      ),
    );
  });
});

describe('products', () => {
  test('by CPUID', () => {
    const models = [0x00, 0x0f, 0x10, 0x1f, 0x20, 0x9f, 0xa0, 0xaf, 0xb0];
    const milanToGenoa = ['Milan', 'Milan', 'Genoa', 'Genoa', undefined, undefined, 'Genoa', 'Genoa', undefined];
    expect(models.map((model) => productOfCpu(0x19, model))).toEqual(milanToGenoa);
    const turin = ['Turin', 'Turin', 'Turin', 'Turin', undefined, undefined, undefined, undefined, undefined];
    expect(models.map((model) => productOfCpu(0x1a, model))).toEqual(turin);
    expect(productOfCpu(0x17, 0x31)).toBeUndefined();
  });

  test('by name', () => {
    const known = ['Milan-B0', 'Milan', 'Genoa-B2', 'Siena-B1', 'Bergamo', 'Turin-C1'];
    expect(known.map(productOfName)).toEqual(['Milan', 'Milan', 'Genoa', 'Genoa', 'Genoa', 'Turin']);
    const unknown = ['milan', 'constructor', 'Milan-', 'Rome-B0', ''];
    expect(unknown.map(productOfName).filter((product) => product !== undefined)).toEqual([]);
  });

  test('lay out a TCB differently, and a wrong layout shows', () => {
    const milan = Uint8Array.of(4, 0, 0, 0, 0, 0, 27, 222);
    const turin = Uint8Array.of(1, 2, 3, 4, 0, 0, 0, 90);
    expect(readTcb(milan, 'Milan', 'TCB')).toEqual({ bootloader: 4, tee: 0, snp: 27, microcode: 222 });
    expect(readTcb(turin, 'Turin', 'TCB')).toEqual({ fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 90 });
    expect(reasonOf(() => readTcb(turin, 'Genoa', 'TCB'))).toBe('parse/reserved');
    expect(reasonOf(() => readTcb(milan, 'Turin', 'TCB'))).toBe('parse/reserved');
  });
});
