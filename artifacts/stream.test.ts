import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SEGMENT_BYTES } from '../proto/index.ts';
import { openSegment, segmentCount, sealedBytes, segmentOpener, segmentSealer, type ModelFile } from './stream.ts';

const MODEL = 'acme/text-detector@1';
const ALTERED = expect.objectContaining({ code: 'CFN_ARTIFACT_ALTERED' });
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

function openAll(file: ModelFile, pieces: readonly Uint8Array[], model = MODEL, dataKey: Uint8Array = key): Buffer {
  const opener = segmentOpener(dataKey, file, model);
  const out = pieces.flatMap((piece) => opener.push(piece));
  opener.end();
  return Buffer.concat(out);
}

const plaintext = randomBytes(3 * SEGMENT_BYTES + 12_345);
const { file, segments } = seal(plaintext);

describe('round trip', () => {
  test.each([0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES])('%i bytes', (bytes) => {
    const sealed = seal(plaintext.subarray(0, bytes));
    expect(sealed.segments.length).toBe(segmentCount(sealed.file));
    expect(openAll(sealed.file, sealed.segments).equals(plaintext.subarray(0, bytes))).toBe(true);
  });

  test('however the ciphertext is cut into pieces', () => {
    const ciphertext = Buffer.concat(segments);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: ciphertext.length }), { maxLength: 12 }), (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), ciphertext.length];
        const pieces = at.slice(1).map((end, i) => ciphertext.subarray(at[i], end));
        expect(openAll(file, pieces).equals(plaintext)).toBe(true);
      }),
      { numRuns: 10 },
    );
  });

  test('a segment opens by itself', () => {
    const third = openSegment(key, file, MODEL, 2, segments[2] ?? new Uint8Array());
    expect(Buffer.from(third).equals(plaintext.subarray(2 * SEGMENT_BYTES, 3 * SEGMENT_BYTES))).toBe(true);
  });
});

describe('INV-07 refuses', () => {
  const [a, b, c, d] = segments as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  const flip = (bytes: Uint8Array, at: number): Uint8Array => bytes.with(at, (bytes[at] ?? 0) ^ 1);
  const other = seal(plaintext, { path: 'weights.bin' });
  const cases: Record<string, Uint8Array[]> = {
    'nothing at all': [],
    'cut at a segment': [a, b, c],
    'cut inside a segment': [a, b, c, d.subarray(0, 100)],
    'cut by one byte': [a, b, c, d.subarray(0, -1)],
    'a missing segment': [a, c, d],
    'reordered segments': [b, a, c, d],
    'a duplicated segment': [a, a, b, c, d],
    'the last segment moved forward': [d, a, b, c],
    'one byte too many': [a, b, c, d, new Uint8Array(1)],
    'another segment appended': [a, b, c, d, d],
    'a segment of another file': [a, other.segments[1] ?? a, c, d],
    'a bit flipped in the first byte': [flip(a, 0), b, c, d],
    'a bit flipped in a tag': [a, b, flip(c, c.length - 1), d],
    'a bit flipped in the last segment': [a, b, c, flip(d, 50)],
  };
  test.each(Object.entries(cases))('%s', (_, pieces) => {
    expect(() => openAll(file, pieces)).toThrow(ALTERED);
  });

  test('any flipped bit', () => {
    const small = seal(plaintext.subarray(0, 300));
    const ciphertext = Buffer.concat(small.segments);
    fc.assert(
      fc.property(fc.nat(ciphertext.length * 8 - 1), (bit) => {
        const broken = Buffer.from(ciphertext);
        broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(() => openAll(small.file, [broken])).toThrow(ALTERED);
      }),
    );
  });

  test('another version of the model, another path, another key, another layout', () => {
    expect(() => openAll(file, segments, 'acme/text-detector@2')).toThrow(ALTERED);
    expect(() => openAll({ ...file, path: 'weights.bin' }, segments)).toThrow(ALTERED);
    expect(() => openAll(file, segments, MODEL, randomBytes(32))).toThrow(ALTERED);
    expect(() => openAll(file, segments, MODEL, randomBytes(16))).toThrow(ALTERED);
    expect(() => openAll({ ...file, bytes: file.bytes - 1 }, segments)).toThrow(ALTERED);
    expect(() => openAll({ ...file, noncePrefix: '00112233445567' }, segments)).toThrow(ALTERED);
    expect(() => openAll({ ...file, segmentBytes: 2 ** 40 }, segments)).toThrow(ALTERED);
  });

  test('authentic segments whose plaintext is not the one the manifest names', () => {
    expect(() => openAll({ ...file, plaintextDigest: '0'.repeat(64) }, segments)).toThrow(ALTERED);
  });

  test('everything after a refusal, and after the end', () => {
    const opener = segmentOpener(key, file, MODEL);
    expect(() => opener.push(Buffer.concat([b, a]))).toThrow(ALTERED);
    expect(() => opener.push(a)).toThrow(ALTERED);
    expect(() => opener.end()).toThrow(ALTERED);
    const whole = segmentOpener(key, file, MODEL);
    for (const segment of segments) whole.push(segment);
    whole.end();
    expect(() => whole.end()).toThrow(ALTERED);
  });

  test('a segment at another index, or of another length', () => {
    expect(() => openSegment(key, file, MODEL, 1, a)).toThrow(ALTERED);
    expect(() => openSegment(key, file, MODEL, 4, a)).toThrow(ALTERED);
    expect(() => openSegment(key, file, MODEL, -1, a)).toThrow(ALTERED);
    expect(() => openSegment(key, file, MODEL, 3, a)).toThrow(ALTERED);
    expect(sealedBytes(file, 3)).toBe(12_345 + 16);
  });

  test('to seal another number of bytes than the layout says', () => {
    const layout = { path: 'm', bytes: 10, segmentBytes: SEGMENT_BYTES, noncePrefix: '00112233445566' };
    const invalid = expect.objectContaining({ code: 'CFN_INPUT_INVALID' });
    expect(() => segmentSealer(key, layout, MODEL).push(new Uint8Array(11))).toThrow(invalid);
    expect(() => segmentSealer(key, layout, MODEL).end()).toThrow(invalid);
  });
});
