import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { segmentSealer } from '../../artifacts/stream.ts';
import { SEGMENT_BYTES, type ModelPackage } from '../../proto/index.ts';
import { modelLoader, type ModelFiles } from './model-loader.ts';

const MODEL = 'acme/text-detector@1';
const ALTERED = { code: 'CFN_ARTIFACT_ALTERED' };
const key = randomBytes(32);

interface Sealed {
  readonly file: ModelPackage['files'][number];
  readonly segments: readonly Uint8Array[];
}
function seal(plaintext: Uint8Array, path = 'model.onnx', noncePrefix = '00112233445566'): Sealed {
  const layout = { path, bytes: plaintext.length, segmentBytes: SEGMENT_BYTES, noncePrefix };
  const sealer = segmentSealer(key, layout, MODEL);
  const segments = [...sealer.push(plaintext), sealer.end()];
  const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  return {
    file: { ...layout, plaintextDigest: digest(plaintext), ciphertextDigest: digest(Buffer.concat(segments)) },
    segments,
  };
}
const packageOf = (...files: readonly ModelPackage['files'][number][]): ModelPackage => ({
  format: 'cfn/model/v1',
  model: MODEL,
  files: [...files],
  kms: { url: 'http://127.0.0.1:9000', publicKey: 'A'.repeat(43) },
});

/** What a load came to, and what its files' memory holds after the wipe. */
async function load(
  modelPackage: ModelPackage,
  pieces: readonly (readonly [path: string, pieces: readonly Uint8Array[]])[],
  threadsFromBytes: number,
  dataKey: Uint8Array = key,
): Promise<Map<string, Buffer>> {
  const taken = Uint8Array.from(dataKey);
  const loader = modelLoader(modelPackage, taken, threadsFromBytes);
  expect(taken.some((byte) => byte !== 0)).toBe(false);
  let files: ModelFiles | undefined;
  try {
    for (const [path, ciphertext] of pieces) {
      for (const piece of ciphertext) expect(await loader.push(path, piece, false)).toBeUndefined();
      expect(files).toBeUndefined();
      files = await loader.push(path, new Uint8Array(), true);
    }
    if (files === undefined) throw new Error('the package was not opened');
    const copies = new Map([...files].map(([path, bytes]) => [path, Buffer.from(bytes)]));
    await loader.wipe();
    for (const bytes of files.values()) expect(Buffer.from(bytes).equals(Buffer.alloc(bytes.length))).toBe(true);
    return copies;
  } finally {
    await loader.wipe();
    await expect(loader.push('model.onnx', new Uint8Array(1), true)).rejects.toMatchObject(ALTERED);
  }
}

const graph = randomBytes(3 * SEGMENT_BYTES + 12_345);
const sealed = seal(graph);
const weights = randomBytes(2 * SEGMENT_BYTES);
const beside = seal(weights, 'weights.bin', '66554433221100');

describe.each([
  ['on threads', 0],
  ['on the thread that reads', Number.MAX_SAFE_INTEGER],
])('%s', (_, threadsFromBytes) => {
  const openGraph = async (
    file: ModelPackage['files'][number],
    segments: readonly Uint8Array[],
    dataKey?: Uint8Array,
  ): Promise<Buffer | undefined> =>
    (await load(packageOf(file), [['model.onnx', segments]], threadsFromBytes, dataKey)).get('model.onnx');

  test.each([0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES])(
    'opens %i bytes',
    async (bytes) => {
      const { file, segments } = seal(graph.subarray(0, bytes));
      expect((await openGraph(file, segments))?.equals(graph.subarray(0, bytes))).toBe(true);
    },
  );

  test('opens files in the order of the manifest', async () => {
    const pieces = [
      ['weights.bin', beside.segments],
      ['model.onnx', sealed.segments],
    ] as const;
    const files = await load(packageOf(beside.file, sealed.file), pieces, threadsFromBytes);
    expect(files.get('weights.bin')?.equals(weights)).toBe(true);
    expect(files.get('model.onnx')?.equals(graph)).toBe(true);
    await expect(load(packageOf(sealed.file, beside.file), pieces, threadsFromBytes)).rejects.toMatchObject(ALTERED);
  });

  test('opens however the ciphertext is cut into pieces', async () => {
    const ciphertext = Buffer.concat(sealed.segments);
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: ciphertext.length }), { maxLength: 12 }), async (cuts) => {
        const at = [0, ...cuts.toSorted((a, b) => a - b), ciphertext.length];
        const pieces = at.slice(1).map((end, i) => ciphertext.subarray(at[i], end));
        expect((await openGraph(sealed.file, pieces))?.equals(graph)).toBe(true);
      }),
      { numRuns: 5 },
    );
  });

  const [a, b, c, d] = sealed.segments as [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  const flip = (bytes: Uint8Array, at: number): Uint8Array => bytes.with(at, (bytes[at] ?? 0) ^ 1);
  const cases: Record<string, Uint8Array[]> = {
    'nothing at all': [],
    'a file cut at a segment': [a, b, c],
    'a file cut inside a segment': [a, b, c, d.subarray(0, 100)],
    'a file cut by one byte': [a, b, c, d.subarray(0, -1)],
    'a missing segment': [a, c, d],
    'reordered segments': [b, a, c, d],
    'a duplicated segment': [a, a, b, c, d],
    'a duplicated segment in the place of another': [a, b, b, d],
    'the last segment moved forward': [d, a, b, c],
    'one byte too many': [a, b, c, d, new Uint8Array(1)],
    'another segment appended': [a, b, c, d, d],
    'a segment of another file': [a, beside.segments[1] ?? a, c, d],
    'a segment of another package under the same key': [a, seal(weights, 'model.onnx').segments[1] ?? a, c, d],
    'a bit flipped in the first byte': [flip(a, 0), b, c, d],
    'a bit flipped in a tag': [a, b, flip(c, c.length - 1), d],
    'a bit flipped in the last segment': [a, b, c, flip(d, 50)],
  };
  test.each(Object.entries(cases))('INV-07 refuses %s', async (_name, pieces) => {
    await expect(openGraph(sealed.file, pieces)).rejects.toMatchObject(ALTERED);
  });

  test('INV-07 refuses another version of the model, another path, another key, another layout', async () => {
    const { file, segments } = sealed;
    const other = { ...packageOf(file), model: 'acme/text-detector@2' };
    await expect(load(other, [['model.onnx', segments]], threadsFromBytes)).rejects.toMatchObject(ALTERED);
    for (const changed of [
      { ...file, bytes: file.bytes - 1 },
      { ...file, noncePrefix: '00112233445567' },
      { ...file, segmentBytes: 2 ** 40 },
      { ...file, plaintextDigest: '0'.repeat(64) },
    ])
      await expect(openGraph(changed, segments)).rejects.toMatchObject(ALTERED);
    for (const wrong of [randomBytes(32), randomBytes(16)])
      await expect(openGraph(file, segments, wrong)).rejects.toMatchObject(ALTERED);
    const renamed = packageOf(file, { ...beside.file, path: 'other.bin' });
    const pieces = [
      ['model.onnx', segments],
      ['other.bin', beside.segments],
    ] as const;
    await expect(load(renamed, pieces, threadsFromBytes)).rejects.toMatchObject(ALTERED);
  });
});

test('INV-07 refuses any flipped bit', async () => {
  const small = seal(graph.subarray(0, 300));
  const ciphertext = Buffer.concat(small.segments);
  await fc.assert(
    fc.asyncProperty(fc.nat(ciphertext.length * 8 - 1), async (bit) => {
      const broken = Buffer.from(ciphertext);
      broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const loading = load(packageOf(small.file), [['model.onnx', [broken]]], Number.MAX_SAFE_INTEGER);
      await expect(loading).rejects.toMatchObject(ALTERED);
    }),
  );
});

test('a refusal of a thread is heard before the rest has come', async () => {
  const [a, b, ...rest] = sealed.segments as [Uint8Array, Uint8Array, ...Uint8Array[]];
  const loader = modelLoader(packageOf(sealed.file), Uint8Array.from(key), 0);
  await loader.push('model.onnx', a.with(5, (a[5] ?? 0) ^ 1), false);
  await expect
    .poll(
      () =>
        loader.push('model.onnx', new Uint8Array(), false).then(
          () => 'taken',
          (error: { code: string }) => error.code,
        ),
      { timeout: 20_000 },
    )
    .toBe('CFN_ARTIFACT_ALTERED');
  for (const segment of [b, ...rest])
    await expect(loader.push('model.onnx', segment, false)).rejects.toMatchObject(ALTERED);
  await loader.wipe();
});
