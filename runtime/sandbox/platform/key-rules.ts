import type { KeyUsage } from './crypto-key.ts';
import { DOMException } from './dom-exception.ts';

/** Usages that keys of an algorithm can have (Web Cryptography API §20 and after). */
export function usagesFor(name: string, type: string): readonly KeyUsage[] {
  if (name === 'AES-KW') return ['wrapKey', 'unwrapKey'];
  if (name.startsWith('AES-')) return ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'];
  if (name === 'HMAC') return ['sign', 'verify'];
  if (name === 'PBKDF2' || name === 'HKDF') return ['deriveKey', 'deriveBits'];
  const isPublic = type === 'public';
  if (name === 'RSA-OAEP') return isPublic ? ['encrypt', 'wrapKey'] : ['decrypt', 'unwrapKey'];
  if (name === 'ECDH' || name.startsWith('X')) return isPublic ? [] : ['deriveKey', 'deriveBits'];
  return isPublic ? ['verify'] : ['sign'];
}

export function checkUsages(usages: readonly KeyUsage[], allowed: readonly KeyUsage[]): void {
  const extra = usages.find((usage) => !allowed.includes(usage));
  if (extra !== undefined) throw new DOMException(`the key cannot be used to ${extra}`, 'SyntaxError');
}

/** Block size of a hash, in bits: the length of an HMAC key where none is given. */
export const blockBits = (hash: string): number => (hash === 'SHA-1' || hash === 'SHA-256' ? 512 : 1024);

export const AES_BITS: readonly number[] = [128, 192, 256];
