import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import {
  CfnError,
  modelPackageSchema,
  parseModelPackage,
  sha256Hex,
  toHex,
  utf8,
  MODEL_FILE_BYTES_MAX,
  SEGMENT_BYTES,
  type ModelPackage,
} from '../proto/index.ts';
import type { BlobStore } from './blob-store.ts';
import { freeNow, segmentCount, segmentSealer, TAG_BYTES, type ModelFile, type SegmentLayout } from './stream.ts';

const READ_BYTES = SEGMENT_BYTES;
/** A store that asks for another piece has sent all but so many of those before: streams ask one ahead. */
const PIECES_IN_USE = 8;
/** The file that an engine loads; the others are its external data. */
export const MODEL_ENTRY = 'model.onnx';

export interface SealProgress {
  /** `sealing` works out the digests of all files; then `storing` sends the ciphertext. */
  readonly step: 'sealing' | 'storing';
  /** Plaintext bytes of all files done in this step, and in all. */
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

export interface SealedModel {
  /** Exact bytes of the package manifest; `digest` is their SHA-256, the package's identity. */
  readonly manifestBytes: Uint8Array<ArrayBuffer>;
  readonly digest: string;
  /** 32 bytes. The caller seals it to the KMS and overwrites it. */
  readonly dataKey: Uint8Array<ArrayBuffer>;
}

/**
 * Encrypts a model under a fresh data key and puts the ciphertext into the store (design §5). Plaintext and key stay in
 * this process, and no temporary file is written: every file is sealed twice. The first pass works out the manifest; the second sends
 * what it seals, and of that only segments whose tags are those of the first. So no nonce ever has two ciphertexts outside, whatever
 * happens to the files meanwhile, and whatever a store says it has of an earlier attempt.
 *
 * @param options.files `path` is the name in the package, `source` the file to read; one path is `model.onnx`
 * @param options.begun an attempt that broke off: it goes on under its manifest and key, which must fit the files as they are now
 * @param options.beforeStoring is told of manifest and key before any ciphertext leaves
 * @throws {CfnError} `CFN_INPUT_INVALID` for a wrong reference or list of files, or a file that cannot be read, changes meanwhile, or has
 *   changed since the attempt that `begun` names; what the store throws
 */
export async function sealModel(options: {
  readonly model: string;
  readonly files: readonly { readonly path: string; readonly source: string }[];
  readonly kms: ModelPackage['kms'];
  readonly store: BlobStore;
  readonly begun?: SealedModel | undefined;
  readonly beforeStoring?: (sealed: SealedModel) => Promise<void>;
  readonly onProgress?: (progress: SealProgress) => void;
}): Promise<SealedModel> {
  const { model, kms, store, begun } = options;
  const sources = await planFiles(options.files, begun);
  // Before hours of work, refuse what the manifest could not say.
  const unknown = '0'.repeat(64);
  const planned = sources.map(({ layout }) => ({ ...layout, plaintextDigest: unknown, ciphertextDigest: unknown }));
  parsePlan({ model, kms, files: planned });
  const progressOf = (step: SealProgress['step'], index: number): ((bytesDone: number) => void) => {
    const sizes = sources.map(({ layout }) => layout.bytes);
    const sum = (of: readonly number[]): number => of.reduce((all, bytes) => all + bytes, 0);
    const [before, bytesTotal] = [sum(sizes.slice(0, index)), sum(sizes)];
    return (bytesDone) => options.onProgress?.({ step, bytesDone: before + bytesDone, bytesTotal });
  };

  const dataKey = begun === undefined ? new Uint8Array(randomBytes(32)) : new Uint8Array(begun.dataKey);
  try {
    const files: ModelFile[] = [];
    const tags: Uint8Array[] = [];
    for (const [i, source] of sources.entries()) {
      const first = await firstPass({ dataKey, model, ...source }, progressOf('sealing', i));
      files.push(first.file);
      tags.push(first.tags);
    }
    const manifestBytes = utf8(JSON.stringify(parsePlan({ model, kms, files })));
    const digest = await sha256Hex(manifestBytes);
    if (begun !== undefined && digest !== begun.digest) throw await changedSince(begun, files);
    await options.beforeStoring?.({ manifestBytes, digest, dataKey });

    for (const [i, source] of sources.entries()) {
      const [file, expected] = [files[i], tags[i]];
      if (file === undefined || expected === undefined) continue; // both lists are as long
      const progress = progressOf('storing', i);
      await store.putFrom(file.ciphertextDigest, (offset) =>
        secondPass({ dataKey, model, ...source }, offset, expected, progress),
      );
      progress(file.bytes); // also where the store had it already
    }
    return { manifestBytes, digest, dataKey };
  } catch (error) {
    dataKey.fill(0);
    throw error;
  }
}

interface Source {
  readonly layout: SegmentLayout;
  /** The file to read. */
  readonly source: string;
}
interface Input extends Source {
  readonly dataKey: Uint8Array;
  readonly model: string;
}

/** Nonce prefixes are new, or those of the attempt that goes on: its files under the same names. */
async function planFiles(
  files: readonly { path: string; source: string }[],
  begun: SealedModel | undefined,
): Promise<Source[]> {
  const paths = new Set(files.map(({ path }) => path));
  if (paths.size !== files.length) throw new CfnError('CFN_INPUT_INVALID', 'two files of the model have the same path');
  if (!paths.has(MODEL_ENTRY)) throw new CfnError('CFN_INPUT_INVALID', `a model needs a file ${MODEL_ENTRY}`);
  const known = begun === undefined ? [] : (await parseModelPackage(begun.manifestBytes, begun.digest)).files;
  const planned: Source[] = [];
  for (const { path, source } of files) {
    const found = await stat(source).catch((cause: unknown) => {
      throw unreadable(source, cause);
    });
    if (!found.isFile() || found.size > MODEL_FILE_BYTES_MAX) {
      throw new CfnError('CFN_INPUT_INVALID', `${source} is not a file of at most ${MODEL_FILE_BYTES_MAX} bytes`);
    }
    // Random, and never twice under one key: a repeated GCM nonce would give both files away.
    let noncePrefix = known.find((file) => file.path === path)?.noncePrefix ?? toHex(randomBytes(7));
    while (planned.some(({ layout }) => layout.noncePrefix === noncePrefix)) noncePrefix = toHex(randomBytes(7));
    planned.push({ layout: { path, bytes: found.size, segmentBytes: SEGMENT_BYTES, noncePrefix }, source });
  }
  return planned;
}

function parsePlan(plan: Pick<ModelPackage, 'model' | 'kms' | 'files'>): ModelPackage {
  const parsed = modelPackageSchema.safeParse({ format: 'cfn/model/v1', ...plan });
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new CfnError('CFN_INPUT_INVALID', `${issue?.path.join('.') ?? 'model'}: ${issue?.message ?? 'invalid'}`);
}

/** Seals the file for its digests and tags alone. */
async function firstPass(
  input: Input,
  progress: (bytesDone: number) => void,
): Promise<{ file: ModelFile; tags: Uint8Array }> {
  const { layout } = input;
  const plaintext = createHash('sha256');
  const ciphertext = createHash('sha256');
  const tags = new Uint8Array(segmentCount(layout) * TAG_BYTES);
  let index = 0;
  const onPlaintext = (piece: Uint8Array, bytesDone: number): void => {
    plaintext.update(piece);
    progress(bytesDone);
  };
  for await (const sealed of sealFile(input, 0, onPlaintext)) {
    ciphertext.update(sealed);
    tags.set(sealed.subarray(-TAG_BYTES), TAG_BYTES * index++);
    freeNow(sealed);
  }
  const digests = { plaintextDigest: plaintext.digest('hex'), ciphertextDigest: ciphertext.digest('hex') };
  return { file: { ...layout, ...digests }, tags };
}

/** The ciphertext from `offset` on, as far as it is that of the first pass. */
async function* secondPass(
  input: Input,
  offset: number,
  tags: Uint8Array,
  progress: (bytesDone: number) => void,
): AsyncGenerator<Uint8Array> {
  const segmentBytes = input.layout.segmentBytes + TAG_BYTES;
  // An offset past the end comes from a store that has something else: it finds out by the digest.
  const from = Math.min(Math.floor(offset / segmentBytes), segmentCount(input.layout) - 1);
  let [index, skip] = [from, offset - from * segmentBytes];
  const taken: Uint8Array<ArrayBuffer>[] = [];
  for await (const sealed of sealFile(input, from, (_, bytesDone) => progress(bytesDone))) {
    const expected = tags.subarray(index * TAG_BYTES, (index + 1) * TAG_BYTES);
    if (!timingSafeEqual(sealed.subarray(-TAG_BYTES), expected))
      throw new CfnError('CFN_INPUT_INVALID', `${input.layout.path} changed while it was being sealed`);
    yield sealed.subarray(skip);
    if (taken.push(sealed) > PIECES_IN_USE) taken.splice(0, 1).forEach(freeNow);
    [index, skip] = [index + 1, 0];
  }
}

async function* sealFile(
  { dataKey, layout, model, source }: Input,
  from: number,
  onPlaintext: (piece: Uint8Array, bytesDone: number) => void,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const sealer = segmentSealer(dataKey, layout, model, from);
  const handle = await open(source, 'r').catch((cause: unknown) => {
    throw unreadable(source, cause);
  });
  const piece = new Uint8Array(READ_BYTES);
  try {
    for (let done = from * layout.segmentBytes; ;) {
      const { bytesRead } = await handle.read(piece, 0, READ_BYTES, done).catch((cause: unknown) => {
        throw unreadable(source, cause);
      });
      if (bytesRead === 0) break;
      done += bytesRead;
      const plaintext = piece.subarray(0, bytesRead);
      yield* sealer.push(plaintext);
      onPlaintext(plaintext, done);
    }
    yield sealer.end();
  } finally {
    piece.fill(0);
    await handle.close();
  }
}

async function changedSince(begun: SealedModel, files: readonly ModelFile[]): Promise<CfnError> {
  const then = (await parseModelPackage(begun.manifestBytes)).files;
  const changed = files.find((file, i) => file.ciphertextDigest !== then[i]?.ciphertextDigest);
  const what = changed === undefined ? 'the list of files, the model reference or the KMS' : changed.path;
  return new CfnError('CFN_INPUT_INVALID', `${what} changed since the push began that is to be continued`);
}

function unreadable(source: string, cause: unknown): CfnError {
  return new CfnError(
    'CFN_INPUT_INVALID',
    `cannot read ${source}: ${(cause as NodeJS.ErrnoException).code ?? 'unknown'}`,
    { cause },
  );
}
