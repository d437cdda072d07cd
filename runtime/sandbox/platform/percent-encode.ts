import { encodeUtf8 } from './utf8.ts';

/**
 * Stands in for `@exodus/bytes/whatwg.js` in the platform bundle: whatwg-url asks for UTF-8 only, for the URL class has no encoding override.
 * URL Standard §1.3; `set` has the ASCII characters that are encoded beside controls and non-ASCII.
 */
export function percentEncodeAfterEncoding(encoding: string, input: string, set: string, spaceAsPlus = false): string {
  if (!/^utf-?8$/i.test(encoding)) throw new RangeError(`the encoding '${encoding}' is not supported`);
  let out = '';
  for (const byte of encodeUtf8(input)) {
    const character = String.fromCharCode(byte);
    if (spaceAsPlus && byte === 0x20) out += '+';
    else if (byte <= 0x1f || byte > 0x7e || set.includes(character))
      out += `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    else out += character;
  }
  return out;
}
