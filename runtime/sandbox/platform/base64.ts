import { domString } from './dom-string.ts';
import { DOMException } from './dom-exception.ts';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
const VALUES = new Int8Array(128).fill(-1);
for (let i = 0; i < ALPHABET.length; i++) VALUES[ALPHABET.charCodeAt(i)] = i;

/** HTML §8.3; characters over U+00FF are refused. */
export function btoa(data: unknown): string {
  const text = domString(data);
  let out = '';
  for (let i = 0; i < text.length; i += 3) {
    const [a, b, c] = [text.charCodeAt(i), text.charCodeAt(i + 1), text.charCodeAt(i + 2)];
    if (a > 0xff || b > 0xff || c > 0xff) throw new DOMException('a character is over U+00FF', 'InvalidCharacterError');
    const bits = (a << 16) | ((b || 0) << 8) | (c || 0);
    out += ALPHABET.charAt(bits >> 18) + ALPHABET.charAt((bits >> 12) & 63);
    out += Number.isNaN(b) ? '=' : ALPHABET.charAt((bits >> 6) & 63);
    out += Number.isNaN(c) ? '=' : ALPHABET.charAt(bits & 63);
  }
  return out;
}

/** HTML §8.3 with the forgiving decode of the Infra Standard. */
export function atob(data: unknown): string {
  let text = domString(data).replace(/[\t\n\f\r ]/g, '');
  if (text.length % 4 === 0) text = text.replace(/={1,2}$/, '');
  if (text.length % 4 === 1) throw new DOMException('the string is not base64', 'InvalidCharacterError');
  let out = '';
  let bits = 0;
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const value = VALUES[text.charCodeAt(i)] ?? -1;
    if (value < 0) throw new DOMException('the string is not base64', 'InvalidCharacterError');
    bits = ((bits << 6) | value) & 0xff_ffff;
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out += String.fromCharCode((bits >> count) & 0xff);
  }
  return out;
}
