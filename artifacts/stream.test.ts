import { createHash, randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { SEGMENT_BYTES } from '../proto/index.ts';
import { openFile } from './open-file.testkit.ts';
import { segmentCount, sealedBytes, segmentNonce, segmentSealer, type ModelFile } from './stream.ts';

const MODEL = 'acme/text-detector@1';
const key = randomBytes(32);

function seal(
  plaintext: Uint8Array,
  options: { path?: string; model?: string; dataKey?: Uint8Array } = {},
): { file: ModelFile; segments: Uint8Array[] } {
  const layout = {
    path: options.path ?? 'model.onnx',
    bytes: plaintext.length,
    segmentBytes: SEGMENT_BYTES,
    noncePrefix: '00112233445566',
  };
  const sealer = segmentSealer(options.dataKey ?? key, layout, options.model ?? MODEL);
  const segments: Uint8Array[] = [];
  for (let at = 0; at < plaintext.length; at += 700_000)
    segments.push(...sealer.push(plaintext.subarray(at, at + 700_000)));
  segments.push(sealer.end());
  const digest = (bytes: readonly Uint8Array[]): string =>
    createHash('sha256').update(Buffer.concat(bytes)).digest('hex');
  return { file: { ...layout, plaintextDigest: digest([plaintext]), ciphertextDigest: digest(segments) }, segments };
}

const plaintext = randomBytes(3 * SEGMENT_BYTES + 12_345);
const { file } = seal(plaintext);

test.each([0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES])('%i bytes', (bytes) => {
  const sealed = seal(plaintext.subarray(0, bytes));
  expect(sealed.segments.length).toBe(segmentCount(sealed.file));
  expect(sealed.segments.map(({ length }) => length)).toEqual(
    sealed.segments.map((_, i) => sealedBytes(sealed.file, i)),
  );
  const ciphertext = Buffer.concat(sealed.segments);
  expect(openFile(key, sealed.file, MODEL, ciphertext).equals(plaintext.subarray(0, bytes))).toBe(true);
});

test('no two segments of a file have the same nonce, and the last is told from the others', () => {
  const layout = { ...file, bytes: 3 * SEGMENT_BYTES };
  expect([0, 1, 2].map((index) => Buffer.from(segmentNonce(layout, index)).toString('hex'))).toEqual([
    '001122334455660000000000',
    '001122334455660000000100',
    '001122334455660000000201',
  ]);
});

test('refuses to seal another number of bytes than the layout says', () => {
  const layout = { path: 'm', bytes: 10, segmentBytes: SEGMENT_BYTES, noncePrefix: '00112233445566' };
  const invalid = expect.objectContaining({ code: 'CFN_INPUT_INVALID' });
  expect(() => segmentSealer(key, layout, MODEL).push(new Uint8Array(11))).toThrow(invalid);
  expect(() => segmentSealer(key, layout, MODEL).end()).toThrow(invalid);
});
