import {
  MODEL_ENTRY,
  sealedBytes,
  segmentAad,
  segmentCount,
  segmentNonce,
  TAG_BYTES,
  type ModelFile,
} from '../../artifacts/index.ts';
import { CfnError, concatBytes, type ModelPackage } from '../../proto/index.ts';
import { newOpening } from './opening.ts';
import { openingHere, openingThreads, type Outcome } from './opening-threads.ts';
import type { SharedFile } from './segment-cipher.ts';

/** Plaintext of a verified package, by path; in memory that threads can share. */
export type ModelFiles = ReadonlyMap<string, Uint8Array>;

export interface ModelLoader {
  /**
   * Takes the next ciphertext, file after file in the manifest's order. Resolves to the files once the last one has ended and all verified;
   * nothing of a package is to be had before. A refusal is final.
   *
   * @param end no more of this file comes
   * @throws {CfnError} `CFN_ARTIFACT_ALTERED` for ciphertext that is cut, reordered, swapped, duplicated, changed, too long, or from another
   *   model, version or file
   */
  push(path: string, ciphertext: Uint8Array, end: boolean): Promise<ModelFiles | undefined>;
  /** Overwrites the plaintext and the data key. Nothing can be pushed afterwards. */
  wipe(): Promise<void>;
}

/** Packages from this size on are opened on threads of their own, in bytes. Below, starting them takes longer than opening. */
const THREADS_FROM_BYTES = 64 * 1024 * 1024;

/**
 * Decrypts a package in the memory that it comes to lie in: one buffer for each file, sized by the manifest. Segments are opened while
 * later ones come. Takes over `dataKey`.
 *
 * @param threadsFromBytes smaller packages are opened on this thread
 */
export function modelLoader(
  modelPackage: ModelPackage,
  dataKey: Uint8Array,
  threadsFromBytes = THREADS_FROM_BYTES,
): ModelLoader {
  const { files: layouts, model } = modelPackage;
  const sharedKey = new Uint8Array(new SharedArrayBuffer(dataKey.length));
  sharedKey.set(dataKey);
  dataKey.fill(0);
  const files = opened(() => {
    checkPaths(modelPackage);
    if (sharedKey.length !== 32) throw altered(`the data key has ${sharedKey.length} bytes, expected 32`);
    return layouts.map((layout) => allocate(layout, model));
  });
  const opening = newOpening(sharedKey, files);
  const bytes = layouts.reduce((sum, file) => sum + file.bytes, 0);
  const openers = bytes < threadsFromBytes ? openingHere(opening) : openingThreads(opening);

  let refusal: CfnError | undefined;
  let outcome: Outcome | undefined;
  void openers.outcome.then((how) => (outcome = how));
  let [current, segment, filled, arrived] = [0, 0, 0, 0];

  /** Puts ciphertext and tags where they belong. @returns whether a segment was completed */
  const place = (layout: ModelFile, file: SharedFile, ciphertext: Uint8Array): boolean => {
    const before = arrived;
    for (let at = 0; at < ciphertext.length;) {
      if (segment === file.segments) throw altered(`${layout.path}: bytes follow the last segment`);
      const body = sealedBytes(layout, segment) - TAG_BYTES;
      const inTag = filled >= body;
      const take = Math.min((inTag ? body + TAG_BYTES : body) - filled, ciphertext.length - at);
      const piece = ciphertext.subarray(at, at + take);
      if (inTag) file.tags.set(piece, segment * TAG_BYTES + filled - body);
      else file.bytes.set(piece, segment * file.segmentBytes + filled);
      at += take;
      filled += take;
      if (filled < body + TAG_BYTES) continue;
      [segment, filled, arrived] = [segment + 1, 0, arrived + 1];
    }
    return arrived > before;
  };
  const take = (path: string, ciphertext: Uint8Array, end: boolean): boolean => {
    const [layout, file] = [layouts[current], files[current]];
    if (layout === undefined || file === undefined || layout.path !== path)
      throw altered(`ciphertext of ${path} came where ${layout?.path ?? 'nothing'} was expected`);
    if (place(layout, file, ciphertext)) openers.arrived(arrived);
    if (!end) return false;
    if (segment !== file.segments || filled > 0)
      throw altered(`${path} ends after ${segment} of ${file.segments} segments`);
    [current, segment] = [current + 1, 0];
    return current === layouts.length;
  };
  return {
    async push(path, ciphertext, end) {
      try {
        if (refusal !== undefined) throw refusal;
        // What threads refuse is said at once, not when the rest has come.
        if (outcome !== undefined) verify(outcome, layouts);
        if (!take(path, ciphertext, end)) return undefined;
        verify(await openers.outcome, layouts);
        refusal = altered('the package has been opened');
        return new Map(files.map(({ bytes: plaintext }, i) => [layouts[i]?.path ?? '', plaintext]));
      } catch (error) {
        refusal =
          error instanceof CfnError
            ? error
            : new CfnError('CFN_ENGINE_FAILED', 'the package cannot be opened', { cause: error });
        throw refusal;
      }
    },
    async wipe() {
      refusal ??= altered('the package has been given up');
      await openers.stop();
      sharedKey.fill(0);
      for (const file of files) file.bytes.fill(0);
    },
  };

  /** The key does not outlive a package that is refused before it is begun. */
  function opened<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      sharedKey.fill(0);
      throw error;
    }
  }
}

/** @throws {CfnError} unless every segment opened, and each file has the digest that the manifest names */
function verify(outcome: Outcome, layouts: readonly ModelFile[]): void {
  if ('failed' in outcome)
    throw new CfnError('CFN_ENGINE_FAILED', 'the threads that open the model failed', { cause: outcome.failed });
  if ('refused' in outcome) {
    const { file, segment } = outcome.refused;
    throw altered(`${layouts[file]?.path ?? 'a file'}: segment ${segment} is not authentic in this place`);
  }
  for (const [i, { path, plaintextDigest }] of layouts.entries()) {
    if (outcome.digests[i] !== plaintextDigest)
      throw altered(`${path}: the plaintext has another digest than the manifest names`);
  }
}

function checkPaths({ files }: ModelPackage): void {
  const paths = new Set(files.map(({ path }) => path));
  if (paths.size !== files.length) throw altered('the model package names a file twice');
  if (!paths.has(MODEL_ENTRY)) throw altered(`the model package has no ${MODEL_ENTRY}`);
}

function allocate(layout: ModelFile, model: string): SharedFile {
  const segments = segmentCount(layout);
  try {
    return {
      segments,
      segmentBytes: layout.segmentBytes,
      bytes: new Uint8Array(new SharedArrayBuffer(layout.bytes)),
      tags: new Uint8Array(new SharedArrayBuffer(segments * TAG_BYTES)),
      nonces: concatBytes(...Array.from({ length: segments }, (_, index) => segmentNonce(layout, index))),
      aad: segmentAad(layout, model),
    };
  } catch (cause) {
    if (cause instanceof CfnError) throw cause;
    throw new CfnError('CFN_ENGINE_FAILED', `no memory for ${layout.path} of ${layout.bytes} bytes`, { cause });
  }
}

const altered = (what: string): CfnError => new CfnError('CFN_ARTIFACT_ALTERED', what);
