import { refuse } from './reasons.ts';

/**
 * Splits a run of PEM certificate blocks into DER, in the order given. Only white space may stand between the blocks; one trailing
 * NUL is taken, because Intel's quoting library leaves it there.
 *
 * @throws {Refusal} `parse/pem`, also for more than `blocksMax`
 */
export function parsePem(text: string, blocksMax: number): Uint8Array[] {
  const block = /\s*-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/y;
  const body = text.endsWith('\0') ? text.slice(0, -1) : text;
  const blocks: Uint8Array[] = [];
  let at = 0;
  for (let match = block.exec(body); match !== null; match = block.exec(body)) {
    if (blocks.length === blocksMax) refuse('parse/pem', `chain has over ${blocksMax} certificates`);
    blocks.push(decodeBase64((match[1] ?? '').replaceAll(/\s+/g, '')));
    at = block.lastIndex;
  }
  if (blocks.length === 0 || body.slice(at).trim() !== '')
    refuse('parse/pem', 'certificate chain is not a run of PEM blocks');
  return blocks;
}

function decodeBase64(text: string): Uint8Array {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) refuse('parse/pem', 'PEM block is not base64');
  const binary = atob(text);
  const out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}
