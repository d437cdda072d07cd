import { createHash, randomBytes } from 'node:crypto';
import { open, stat } from 'node:fs/promises';
import {
  CfnError,
  modelPackageSchema,
  sha256Hex,
  toHex,
  utf8,
  MODEL_FILE_BYTES_MAX,
  SEGMENT_BYTES,
  type ModelPackage,
} from '../proto/index.ts';
import type { BlobStore } from './blob-store.ts';
import { segmentSealer, type ModelFile, type SegmentLayout } from './stream.ts';

const READ_BYTES = SEGMENT_BYTES;
/** The file that an engine loads; the others are its external data. */
export const MODEL_ENTRY = 'model.onnx';

export interface SealProgress {
  readonly path: string;
  /** `sealing` works out the digests; `storing` sends the ciphertext. */
  readonly step: 'sealing' | 'storing';
  /** Plaintext bytes of this file done in this step, and in all. */
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
 * this process, and no temporary file is written: each file is sealed twice, once for the ciphertext's digest, which the
 * store asks for first, and once into the store. The two agree, because the digests of both passes must.
 *
 * @param options.files `path` is the name in the package, `source` the file to read; one path is `model.onnx`
 * @throws {CfnError} `CFN_INPUT_INVALID` for a wrong reference or list of files, or a file that cannot be read or
 *   changes meanwhile; what the store throws
 */
export async function sealModel(options: {
  readonly model: string;
  readonly files: readonly { readonly path: string; readonly source: string }[];
  readonly kms: ModelPackage['kms'];
  readonly store: BlobStore;
  readonly onProgress?: (progress: SealProgress) => void;
}): Promise<SealedModel> {
  const { model, kms, store } = options;
  const report = options.onProgress ?? (() => undefined);
  const layouts = await planFiles(options.files);
  // Before hours of work, refuse what the manifest could not say.
  const unknown = '0'.repeat(64);
  parsePlan({
    model,
    kms,
    files: layouts.map(({ layout }) => ({ ...layout, plaintextDigest: unknown, ciphertextDigest: unknown })),
  });

  const dataKey = new Uint8Array(randomBytes(32));
  try {
    const files: ModelFile[] = [];
    for (const { layout, source } of layouts) {
      const seal = (
        step: SealProgress['step'],
        onPlaintext?: (piece: Uint8Array) => void,
      ): AsyncGenerator<Uint8Array> =>
        sealFile({ dataKey, layout, model, source }, (piece, bytesDone) => {
          onPlaintext?.(piece);
          report({ path: layout.path, step, bytesDone, bytesTotal: layout.bytes });
        });
      const plaintextHash = createHash('sha256');
      const ciphertextHash = createHash('sha256');
      for await (const sealed of seal('sealing', (piece) => plaintextHash.update(piece))) ciphertextHash.update(sealed);
      const ciphertextDigest = ciphertextHash.digest('hex');
      await store.put(ciphertextDigest, refuseChange(seal('storing'), ciphertextDigest, layout.path));
      files.push({ ...layout, plaintextDigest: plaintextHash.digest('hex'), ciphertextDigest });
    }
    const manifestBytes = utf8(JSON.stringify(parsePlan({ model, kms, files })));
    return { manifestBytes, digest: await sha256Hex(manifestBytes), dataKey };
  } catch (error) {
    dataKey.fill(0);
    throw error;
  }
}

async function planFiles(
  files: readonly { path: string; source: string }[],
): Promise<{ layout: SegmentLayout; source: string }[]> {
  const paths = new Set(files.map(({ path }) => path));
  if (paths.size !== files.length) throw new CfnError('CFN_INPUT_INVALID', 'two files of the model have the same path');
  if (!paths.has(MODEL_ENTRY)) throw new CfnError('CFN_INPUT_INVALID', `a model needs a file ${MODEL_ENTRY}`);
  const prefixes = new Set<string>();
  const planned = [];
  for (const { path, source } of files) {
    const found = await stat(source).catch((cause: unknown) => {
      throw unreadable(source, cause);
    });
    if (!found.isFile() || found.size > MODEL_FILE_BYTES_MAX) {
      throw new CfnError('CFN_INPUT_INVALID', `${source} is not a file of at most ${MODEL_FILE_BYTES_MAX} bytes`);
    }
    // Random, and never twice under one key: a repeated GCM nonce would give both files away.
    let noncePrefix = toHex(randomBytes(7));
    while (prefixes.has(noncePrefix)) noncePrefix = toHex(randomBytes(7));
    prefixes.add(noncePrefix);
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

async function* sealFile(
  file: {
    readonly dataKey: Uint8Array;
    readonly layout: SegmentLayout;
    readonly model: string;
    readonly source: string;
  },
  onPlaintext: (piece: Uint8Array, bytesDone: number) => void,
): AsyncGenerator<Uint8Array> {
  const sealer = segmentSealer(file.dataKey, file.layout, file.model);
  const handle = await open(file.source, 'r').catch((cause: unknown) => {
    throw unreadable(file.source, cause);
  });
  const piece = new Uint8Array(READ_BYTES);
  try {
    for (let done = 0; ;) {
      const { bytesRead } = await handle.read(piece, 0, READ_BYTES).catch((cause: unknown) => {
        throw unreadable(file.source, cause);
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

/**
 * The store would refuse other bytes as altered; say what really happened. The ciphertext of the first pass never left
 * this process, so even then no nonce has two ciphertexts outside.
 */
async function* refuseChange(
  sealed: AsyncIterable<Uint8Array>,
  digest: string,
  path: string,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  for await (const segment of sealed) {
    hash.update(segment);
    yield segment;
  }
  if (hash.digest('hex') !== digest)
    throw new CfnError('CFN_INPUT_INVALID', `${path} changed while it was being sealed`);
}

function unreadable(source: string, cause: unknown): CfnError {
  return new CfnError(
    'CFN_INPUT_INVALID',
    `cannot read ${source}: ${(cause as NodeJS.ErrnoException).code ?? 'unknown'}`,
    { cause },
  );
}
