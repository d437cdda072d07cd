import { toHex, utf8 } from './bytes.ts';
import { nodeCrypto } from './native.ts';

type Bytes = Uint8Array<ArrayBufferLike>;

async function digest(name: string, bytes: Bytes): Promise<Uint8Array<ArrayBuffer>> {
  if (nodeCrypto !== undefined) return new Uint8Array(nodeCrypto.hash(name.replace('-', ''), bytes, 'buffer'));
  return new Uint8Array(await crypto.subtle.digest(name, bytes as Uint8Array<ArrayBuffer>));
}
export const sha256 = (bytes: Bytes): Promise<Uint8Array<ArrayBuffer>> => digest('SHA-256', bytes);
export const sha384 = (bytes: Bytes): Promise<Uint8Array<ArrayBuffer>> => digest('SHA-384', bytes);
export const sha512 = (bytes: Bytes): Promise<Uint8Array<ArrayBuffer>> => digest('SHA-512', bytes);

/** SHA-256 as 64 lower-case hexadecimal digits: the form of every digest on the wire. */
export async function sha256Hex(bytes: Bytes): Promise<string> {
  return toHex(await sha256(bytes));
}

/**
 * The one encoder of what is hashed or signed: u32be length ‖ label, then u32be length ‖ bytes for each part.
 * No two different (label, parts) give the same bytes.
 */
export function frame(label: `cfn/${string}`, ...parts: readonly Bytes[]): Uint8Array<ArrayBuffer> {
  const all = [utf8(label), ...parts];
  const out = new Uint8Array(all.reduce((sum, part) => sum + 4 + part.length, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const part of all) {
    view.setUint32(at, part.length);
    out.set(part, at + 4);
    at += 4 + part.length;
  }
  return out;
}
