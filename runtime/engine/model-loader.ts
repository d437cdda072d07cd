import { MODEL_ENTRY, segmentOpener, type ModelFile, type SegmentOpener } from '../../artifacts/index.ts';
import { CfnError, type ModelPackage } from '../../proto/index.ts';

/** Plaintext of a verified package, by path. */
export type ModelFiles = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

export interface ModelLoader {
  /**
   * Takes the next ciphertext, file after file in the manifest's order.
   *
   * @returns the files once the last one has ended and verified; nothing of a package is to be had before
   * @throws {CfnError} `CFN_ARTIFACT_ALTERED`
   */
  push(path: string, ciphertext: Uint8Array, end: boolean): ModelFiles | undefined;
  /** Overwrites the plaintext and the data key. Nothing can be pushed afterwards. */
  wipe(): void;
}

interface OpenFile {
  readonly file: ModelFile;
  readonly opener: SegmentOpener;
  readonly plaintext: Uint8Array<ArrayBuffer>;
  filled: number;
}

/** Decrypts a package into memory: one buffer for each file, sized by the manifest. Takes over `dataKey`. */
export function modelLoader(modelPackage: ModelPackage, dataKey: Uint8Array): ModelLoader {
  const done = new Map<string, Uint8Array<ArrayBuffer>>();
  const waiting = [...modelPackage.files];
  try {
    checkPaths(modelPackage);
  } catch (error) {
    dataKey.fill(0);
    throw error;
  }
  let current: OpenFile | undefined;

  const openNext = (path: string): OpenFile => {
    const file = waiting.shift();
    if (file?.path !== path)
      throw new CfnError(
        'CFN_ARTIFACT_ALTERED',
        `ciphertext of ${path} came where ${file?.path ?? 'nothing'} was expected`,
      );
    return { file, opener: segmentOpener(dataKey, file, modelPackage.model), plaintext: allocate(file), filled: 0 };
  };
  return {
    push(path, ciphertext, end) {
      current ??= openNext(path);
      const { file, opener, plaintext } = current;
      if (file.path !== path)
        throw new CfnError('CFN_ARTIFACT_ALTERED', `ciphertext of ${path} came where ${file.path} was expected`);
      for (const segment of opener.push(ciphertext)) {
        plaintext.set(segment, current.filled);
        current.filled += segment.length;
        segment.fill(0);
      }
      if (!end) return undefined;
      opener.end();
      done.set(path, plaintext);
      current = undefined;
      return waiting.length === 0 ? done : undefined;
    },
    wipe() {
      dataKey.fill(0);
      current?.plaintext.fill(0);
      for (const plaintext of done.values()) plaintext.fill(0);
      done.clear();
      waiting.length = 0;
      current = undefined;
    },
  };
}

function checkPaths({ files }: ModelPackage): void {
  const paths = new Set(files.map(({ path }) => path));
  if (paths.size !== files.length) throw new CfnError('CFN_ARTIFACT_ALTERED', 'the model package names a file twice');
  if (!paths.has(MODEL_ENTRY)) throw new CfnError('CFN_ARTIFACT_ALTERED', `the model package has no ${MODEL_ENTRY}`);
}

function allocate(file: ModelFile): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(file.bytes);
  } catch (cause) {
    throw new CfnError('CFN_ENGINE_FAILED', `no memory for ${file.path} of ${file.bytes} bytes`, { cause });
  }
}
