import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ByteReader, concatBytes, equalBytes, frame, fromBase64url, fromHex, toBase64url, toHex } from './index.ts';

const bytes = fc.uint8Array({ maxLength: 64 });

test('hexadecimal and base64url round trip', () => {
  fc.assert(
    fc.property(bytes, (value) => {
      expect(fromHex(toHex(value))).toEqual(new Uint8Array(value));
      expect(fromBase64url(toBase64url(value))).toEqual(new Uint8Array(value));
    }),
  );
});

test('other spellings of the same bytes are refused', () => {
  for (const text of ['AB', 'a', 'zz', ' 00']) expect(() => fromHex(text)).toThrow(/hexadecimal/);
  for (const text of ['AA==', 'A', 'AB', 'A+_-', 'AA A']) expect(() => fromBase64url(text)).toThrow(/base64url/);
});

test('the reader refuses to pass the end and to leave bytes over', () => {
  const reader = new ByteReader(new Uint8Array([1, 2, 3]));
  expect(reader.u16le('two')).toBe(0x0201);
  expect(() => reader.take(2, 'more')).toThrow(/more ends past the input: need 2 bytes, have 1/);
  expect(() => reader.finish('it')).toThrow(/1 bytes left over/);
  expect(() => new ByteReader(new Uint8Array(1)).take(-1, 'x')).toThrow();
});

test('different parts never frame to the same bytes', () => {
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 4 }), fc.array(bytes, { maxLength: 4 }), (a, b) => {
      const same = a.length === b.length && a.every((part, i) => equalBytes(part, b[i] ?? new Uint8Array()));
      expect(equalBytes(frame('cfn/test', ...a), frame('cfn/test', ...b))).toBe(same);
      expect(concatBytes(...a).length).toBe(a.reduce((sum, part) => sum + part.length, 0));
    }),
  );
});
