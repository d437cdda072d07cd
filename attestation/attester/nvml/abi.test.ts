import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CfnError, toHex } from '../../../proto/index.ts';
import {
  CERTIFICATE_BYTES,
  decodeCertificates,
  decodeReport,
  decodeSettings,
  decodeState,
  decodeText,
  reportRequest,
  SETTINGS_VERSION,
  settingsRequest,
} from './abi.ts';

test('sizes and version are those of nvml.h', () => {
  expect(reportRequest(new Uint8Array(32))).toHaveLength(12_332);
  expect(CERTIFICATE_BYTES).toBe(9224);
  expect(SETTINGS_VERSION).toBe(0x1000014);
  expect(toHex(settingsRequest())).toBe(`14000001${'00'.repeat(16)}`);
  expect(() => reportRequest(new Uint8Array(33))).toThrow(
    expect.objectContaining({ code: 'CFN_INPUT_INVALID' }) as Error,
  );
});

test('text ends at its NUL, and what follows is nobody’s', () => {
  expect(decodeText(new Uint8Array([0x35, 0x35, 0, 0xff]))).toBe('55');
  expect(decodeText(new Uint8Array([0x35]))).toBe('5');
  expect(() => decodeText(new Uint8Array([0x35, 0xff]))).toThrow(CfnError);
});

describe('whatever the library writes into a struct', () => {
  const words = fc.array(fc.oneof(fc.nat(0x3000), fc.nat(0xffffffff)), { minLength: 3, maxLength: 3 });
  const struct = (bytes: number) =>
    fc.tuple(words, fc.uint8Array({ minLength: 64, maxLength: 64 })).map(([head, fill]) => {
      const out = new Uint8Array(bytes).map((_, index) => fill[index % 64] ?? 0);
      head.forEach((word, index) => new DataView(out.buffer).setUint32(4 * index, word, true));
      return out;
    });
  const refusesOrBounds = (decode: (bytes: Uint8Array) => { length: number }, max: number) => (bytes: Uint8Array) => {
    try {
      expect(decode(bytes).length).toBeLessThanOrEqual(max);
    } catch (error) {
      expect(error).toBeInstanceOf(CfnError);
    }
  };

  test('is decoded within its arrays, or refused', () => {
    fc.assert(fc.property(struct(12_332), refusesOrBounds(decodeReport, 0x2000)), { numRuns: 300 });
    fc.assert(fc.property(struct(CERTIFICATE_BYTES), refusesOrBounds(decodeCertificates, 0x1400)), { numRuns: 300 });
  });

  test('that is too short is refused', () => {
    for (const decode of [decodeReport, decodeCertificates, decodeSettings, decodeState])
      expect(() => decode(new Uint8Array(11))).toThrow(CfnError);
  });
});
