import { createCipheriv } from 'node:crypto';
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
/** Of the tag that follows the ciphertext of each segment. */
export const TAG_BYTES = 16;
/** Largest segment that an opener takes: it holds a whole one, sealed and open. Ours are 1 MiB. */
const OPEN_SEGMENT_BYTES_MAX = 64 * 1024 * 1024;

export interface SegmentSealer {
  /** Takes plaintext in pieces of any size; returns the sealed segments that they complete. */
  push(plaintext: Uint8Array): Uint8Array<ArrayBuffer>[];
  /** Returns the last segment. @throws {CfnError} `CFN_INPUT_INVALID` when fewer bytes came than the layout says */
  end(): Uint8Array<ArrayBuffer>;
}

/**
 * Seals one file, in order. The caller makes sure that key and prefix meet one plaintext only.
 *
 * @param from segment to begin with: what is pushed starts there
 */
export function segmentSealer(dataKey: Uint8Array, layout: SegmentLayout, model: string, from = 0): SegmentSealer {
  const buffer = new Uint8Array(Math.min(layout.segmentBytes, layout.bytes));
  let filled = 0;
  let taken = from * layout.segmentBytes;
  let index = from;
  const seal = (): Uint8Array<ArrayBuffer> => {
    const [nonce, aad] = [segmentNonce(layout, index), segmentAad(layout, model)];
    const cipher = createCipheriv(ALGORITHM, checkedKey(dataKey), nonce, { authTagLength: TAG_BYTES }).setAAD(aad);
    const ciphertext = cipher.update(buffer.subarray(0, filled));
    cipher.final(); // GCM gives all its output in update; this makes the tag
    const sealed = concatBytes(ciphertext, cipher.getAuthTag());
    freeNow(ciphertext);
    index += 1;
    filled = 0;
    return sealed;
  };
  return {
    push(plaintext) {
      taken += plaintext.length;
      if (taken > layout.bytes) throw changedWhileSealing(layout, `more than ${layout.bytes}`);
      const out: Uint8Array<ArrayBuffer>[] = [];
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

/** Nonce of segment `index`, 12 bytes. */
export function segmentNonce(file: SegmentLayout, index: number): Uint8Array {
  const nonce = new Uint8Array(12);
  nonce.set(fromHex(file.noncePrefix, 'CFN_ARTIFACT_ALTERED'));
  new DataView(nonce.buffer).setUint32(7, index);
  nonce[11] = index === segmentCount(file) - 1 ? 1 : 0;
  return nonce;
}

/** Binds a segment to model version, file and layout, so that it opens nowhere else, even under the same key. */
export function segmentAad(file: SegmentLayout, model: string): Uint8Array {
  const layout = new DataView(new ArrayBuffer(16));
  layout.setBigUint64(0, BigInt(file.bytes));
  layout.setBigUint64(8, BigInt(file.segmentBytes));
  return frame('cfn/segment/v1', utf8(model), utf8(file.path), new Uint8Array(layout.buffer));
}

/** Gives the memory back without waiting for a garbage collection: a megabyte a segment piles up to a hundred until then. */
export function freeNow(bytes: Uint8Array<ArrayBuffer>): void {
  if (bytes.length === bytes.buffer.byteLength) bytes.buffer.transfer(0);
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
