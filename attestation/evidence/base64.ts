import { refuse } from './reasons.ts';

/**
 * Standard base64 (RFC 4648 §4) with its padding; line breaks, the other alphabet and non-zero trailing bits are refused, so that one
 * byte string has one text.
 *
 * @throws {Refusal} `parse/base64`
 */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text))
    refuse('parse/base64', 'expected base64 with padding');
  const binary = atob(text);
  if (btoa(binary) !== text) refuse('parse/base64', 'base64 is not canonical');
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}
