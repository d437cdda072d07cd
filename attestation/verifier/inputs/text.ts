import { fromHex } from '../../../proto/index.ts';

/**
 * Bytes that a text spells as hexadecimal (with `0x` or colons, as some tools write it) or base64 (either alphabet), line breaks and the
 * quotes of JSON or Python around it allowed; undefined when it spells none.
 */
export function decodeText(text: string): Uint8Array | undefined {
  const compact = text.replaceAll(/\s/g, '').replace(/^b?(["'])([^"']*)\1$/, '$2');
  if (compact.length === 0) return undefined;
  const pairs = /^[0-9a-fA-F]{2}:[0-9a-fA-F:]*$/.test(compact) ? compact.replaceAll(':', '') : compact;
  const digits = /^(?:0[xX])?([0-9a-fA-F]+)$/.exec(pairs)?.[1] ?? '';
  if (digits.length > 0 && digits.length % 2 === 0) return fromHex(digits.toLowerCase());
  return decodeBase64(compact);
}

/** Base64 in either alphabet, padded or not; undefined when it is none. */
export function decodeBase64(text: string): Uint8Array | undefined {
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) return undefined;
  const plain = text.replace(/=+$/, '').replaceAll('-', '+').replaceAll('_', '/');
  if (plain.length % 4 === 1) return undefined;
  return Uint8Array.from(atob(plain), (character) => character.charCodeAt(0));
}
