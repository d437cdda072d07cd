import { createCipheriv, createDecipheriv, createHash, type DecipherGCM } from 'node:crypto';
import { CfnError, concatBytes, frame, fromHex, utf8, type ModelPackage } from '../proto/index.ts';

/**
 * STREAM over AES-256-GCM (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
 * Misuse-Resistance", CRYPTO 2015; nonce layout as in Tink's AES-GCM streaming): a file is cut into segments, and
 * segment i is sealed under nonce = 7-byte prefix ‖ u32be i ‖ u8 (1 for the last segment, else 0). A sealed segment is
 * ciphertext ‖ 16-byte tag. An empty file is one empty segment.
 */
export type ModelFile = ModelPackage['files'][number];
/** What fixes a file's segments; the digests are known only after sealing. */
export type SegmentLayout = Pick<ModelFile, 'path' | 'bytes' | 'segmentBytes' | 'noncePrefix'>;

const ALGORITHM = 'aes-256-gcm';
const KEY_BYTES = 32;
const TAG_BYTES = 16;
/** Largest segment that an opener takes: it holds a whole one, sealed and open. Ours are 1 MiB. */
const OPEN_SEGMENT_BYTES_MAX = 64 * 1024 * 1024;

export interface SegmentSealer {
  /** Takes plaintext in pieces of any size; returns the sealed segments that they complete. */
  push(plaintext: Uint8Array): Uint8Array[];
  /** Returns the last segment. @throws {CfnError} `CFN_INPUT_INVALID` when fewer bytes came than the layout says */
  end(): Uint8Array;
}

/** Seals one file, in order. The caller makes sure that key and prefix meet only once. */
export function segmentSealer(dataKey: Uint8Array, layout: SegmentLayout, model: string): SegmentSealer {
  const buffer = new Uint8Array(Math.min(layout.segmentBytes, layout.bytes));
  let filled = 0;
  let taken = 0;
  let index = 0;
  const seal = (): Uint8Array => {
    const [nonce, aad] = [segmentNonce(layout, index), segmentAad(layout, model)];
    const cipher = createCipheriv(ALGORITHM, checkedKey(dataKey), nonce, { authTagLength: TAG_BYTES }).setAAD(aad);
    const sealed = concatBytes(cipher.update(buffer.subarray(0, filled)), cipher.final(), cipher.getAuthTag());
    index += 1;
    filled = 0;
    return sealed;
  };
  return {
    push(plaintext) {
      taken += plaintext.length;
      if (taken > layout.bytes) throw changedWhileSealing(layout, `more than ${layout.bytes}`);
      const out: Uint8Array[] = [];
      for (let at = 0; at < plaintext.length;) {
        // A full buffer is sealed only when another byte follows: the last segment, full or not, is end()'s.
        if (filled === buffer.length) out.push(seal());
        const take = Math.min(buffer.length - filled, plaintext.length - at);
        buffer.set(plaintext.subarray(at, at + take), filled);
        filled += take;
        at += take;
      }
      return out;
    },
    end() {
      if (taken !== layout.bytes) throw changedWhileSealing(layout, `${taken} of ${layout.bytes}`);
      const last = seal();
      buffer.fill(0);
      return last;
    },
  };
}

export interface SegmentOpener {
  /**
   * Takes ciphertext in pieces of any size. Returns the plaintext of the segments that they complete, in order, each
   * authentic in its place; the caller owns and overwrites them. The file as a whole is good only once `end` returned.
   */
  push(ciphertext: Uint8Array): Uint8Array[];
  /** @throws {CfnError} `CFN_ARTIFACT_ALTERED` unless the whole file came, and its plaintext has the manifest's digest */
  end(): void;
}

/**
 * Opens one file of a model package, in order. A refusal is final: an opener that threw refuses everything after.
 *
 * @param dataKey 32 bytes; used by reference, so that its holder can overwrite it
 * @throws {CfnError} `CFN_ARTIFACT_ALTERED` for ciphertext that is cut, reordered, swapped, duplicated, changed, too
 *   long, or from another model, version or file
 */
export function segmentOpener(dataKey: Uint8Array, file: ModelFile, model: string): SegmentOpener {
  const count = segmentCount(file);
  const hash = createHash('sha256');
  const sealed = new Uint8Array(Math.min(file.segmentBytes, file.bytes) + TAG_BYTES);
  let filled = 0;
  let index = 0;
  let refusal: CfnError | undefined;
  const guarded = <T>(work: () => T): T => {
    if (refusal !== undefined) throw refusal;
    try {
      return work();
    } catch (error) {
      refusal =
        error instanceof CfnError
          ? error
          : new CfnError('CFN_ARTIFACT_ALTERED', `${file.path} does not open`, { cause: error });
      throw refusal;
    }
  };
  const takeSealed = (ciphertext: Uint8Array, out: Uint8Array[]): void => {
    for (let at = 0; at < ciphertext.length;) {
      if (index === count) throw altered(file, 'bytes follow the last segment');
      const wanted = sealedBytes(file, index);
      const take = Math.min(wanted - filled, ciphertext.length - at);
      // A segment that lies whole in the piece is opened where it is, without a copy.
      const whole = filled === 0 && take === wanted;
      if (!whole) sealed.set(ciphertext.subarray(at, at + take), filled);
      filled += take;
      at += take;
      if (filled < wanted) break;
      const plaintext = openSegment(
        dataKey,
        file,
        model,
        index,
        whole ? ciphertext.subarray(at - take, at) : sealed.subarray(0, wanted),
      );
      hash.update(plaintext);
      out.push(plaintext);
      index += 1;
      filled = 0;
    }
  };
  return {
    push: (ciphertext) =>
      guarded(() => {
        const out: Uint8Array[] = [];
        try {
          takeSealed(ciphertext, out);
        } catch (error) {
          for (const plaintext of out) plaintext.fill(0); // nobody will get them
          throw error;
        }
        return out;
      }),
    end: () =>
      guarded(() => {
        if (index !== count || filled > 0) throw altered(file, `ends after ${index} of ${count} segments`);
        if (hash.digest('hex') !== file.plaintextDigest)
          throw altered(file, 'the plaintext has another digest than the manifest names');
        refusal = altered(file, 'the file has been closed');
      }),
  };
}

/**
 * Opens segment `index` by itself: random access, for parallel decryption. Says nothing about the other segments or the
 * plaintext's digest.
 *
 * @param sealed ciphertext ‖ tag of exactly this segment
 * @returns plaintext in memory of its own, which the caller overwrites
 * @throws {CfnError} `CFN_ARTIFACT_ALTERED`
 */
export function openSegment(
  dataKey: Uint8Array,
  file: SegmentLayout,
  model: string,
  index: number,
  sealed: Uint8Array,
): Uint8Array {
  if (!Number.isSafeInteger(index) || index < 0 || index >= segmentCount(file))
    throw altered(file, `has no segment ${index}`);
  if (sealed.length !== sealedBytes(file, index)) {
    throw altered(file, `segment ${index} has ${sealed.length} bytes, expected ${sealedBytes(file, index)}`);
  }
  const nonce = segmentNonce(file, index);
  const decipher: DecipherGCM = createDecipheriv(ALGORITHM, checkedKey(dataKey), nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(segmentAad(file, model));
  decipher.setAuthTag(sealed.subarray(sealed.length - TAG_BYTES));
  const plaintext = decipher.update(sealed.subarray(0, sealed.length - TAG_BYTES));
  try {
    decipher.final(); // GCM gives all its output in update; this checks the tag
  } catch (cause) {
    plaintext.fill(0);
    throw new CfnError('CFN_ARTIFACT_ALTERED', `${file.path}: segment ${index} is not authentic in this place`, {
      cause,
    });
  }
  return plaintext;
}

/** Number of segments; at least one. @throws {CfnError} `CFN_ARTIFACT_ALTERED` for a layout that we do not take */
export function segmentCount(file: SegmentLayout): number {
  if (file.segmentBytes > OPEN_SEGMENT_BYTES_MAX)
    throw altered(file, `segments of ${file.segmentBytes} bytes are over ${OPEN_SEGMENT_BYTES_MAX}`);
  return Math.max(1, Math.ceil(file.bytes / file.segmentBytes));
}

/** Bytes of sealed segment `index`: plaintext and tag. */
export function sealedBytes(file: SegmentLayout, index: number): number {
  return Math.min(file.segmentBytes, file.bytes - index * file.segmentBytes) + TAG_BYTES;
}

function segmentNonce(file: SegmentLayout, index: number): Uint8Array {
  const nonce = new Uint8Array(12);
  nonce.set(fromHex(file.noncePrefix, 'CFN_ARTIFACT_ALTERED'));
  new DataView(nonce.buffer).setUint32(7, index);
  nonce[11] = index === segmentCount(file) - 1 ? 1 : 0;
  return nonce;
}

/** Binds a segment to model version, file and layout, so that it opens nowhere else, even under the same key. */
function segmentAad(file: SegmentLayout, model: string): Uint8Array {
  const layout = new DataView(new ArrayBuffer(16));
  layout.setBigUint64(0, BigInt(file.bytes));
  layout.setBigUint64(8, BigInt(file.segmentBytes));
  return frame('cfn/segment/v1', utf8(model), utf8(file.path), new Uint8Array(layout.buffer));
}

function checkedKey(key: Uint8Array): Uint8Array {
  if (key.length !== KEY_BYTES)
    throw new CfnError('CFN_ARTIFACT_ALTERED', `the data key has ${key.length} bytes, expected ${KEY_BYTES}`);
  return key;
}

function altered(file: SegmentLayout, what: string): CfnError {
  return new CfnError('CFN_ARTIFACT_ALTERED', `${file.path}: ${what}`);
}

function changedWhileSealing(layout: SegmentLayout, came: string): CfnError {
  return new CfnError('CFN_INPUT_INVALID', `${layout.path} changed while it was read: ${came} bytes came`);
}
