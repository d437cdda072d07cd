import { createDecipheriv } from 'node:crypto';
import { sealedBytes, segmentAad, segmentCount, segmentNonce, TAG_BYTES, type ModelFile } from './stream.ts';

/** Opens a sealed file with Node's own AES-GCM: a second opinion beside the engine's, for tests. Throws when a tag is wrong. */
export function openFile(dataKey: Uint8Array, file: ModelFile, model: string, ciphertext: Uint8Array): Buffer {
  const out: Buffer[] = [];
  let at = 0;
  for (let index = 0; index < segmentCount(file); index++) {
    const sealed = ciphertext.subarray(at, (at += sealedBytes(file, index)));
    const decipher = createDecipheriv('aes-256-gcm', dataKey, segmentNonce(file, index));
    decipher.setAAD(segmentAad(file, model)).setAuthTag(sealed.subarray(-TAG_BYTES));
    out.push(decipher.update(sealed.subarray(0, -TAG_BYTES)), decipher.final());
  }
  if (at !== ciphertext.length) throw new Error(`${ciphertext.length - at} bytes follow the last segment`);
  return Buffer.concat(out);
}
