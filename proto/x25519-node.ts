import { createPublicKey, diffieHellman, timingSafeEqual, type KeyObject } from 'node:crypto';
import type { Key } from 'hpke';

/** hpke looks at these three members only; the key itself is `handle`. */
interface NodeKey extends Key {
  readonly handle: KeyObject;
  readonly raw?: Uint8Array;
}
export const nodeKey = (
  type: 'private' | 'public',
  handle: KeyObject,
  extractable: boolean,
  raw?: Uint8Array,
): NodeKey => ({
  algorithm: { name: 'X25519' },
  extractable,
  type,
  handle,
  ...(raw && { raw }),
});
export const asNodeKey = (key: Key): NodeKey => {
  if (!('handle' in key)) throw new TypeError('a key of another implementation');
  return key as NodeKey;
};

const base64url = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64url');
export const publicHandle = (raw: Uint8Array): KeyObject =>
  createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: base64url(raw) }, format: 'jwk' });
export const rawPublic = (handle: KeyObject): Uint8Array =>
  new Uint8Array(Buffer.from(handle.export({ format: 'jwk' }).x ?? '', 'base64url'));
export const X25519_PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex'); // RFC 8410 §7

export function sharedPoint(privateKey: KeyObject, publicKey: KeyObject): Uint8Array {
  const dh = diffieHellman({ privateKey, publicKey });
  if (timingSafeEqual(dh, Buffer.alloc(32))) throw new Error('the shared secret is zero'); // RFC 9180 §7.1.4
  return dh;
}
