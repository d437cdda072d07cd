import { TextDecoder } from '@exodus/bytes/encoding.js';

export interface LegacyDecoder {
  readonly encoding: string;
  decode(bytes: Uint8Array, options: { readonly stream: boolean }): string;
}

/**
 * A decoder for an encoding other than UTF-8; their tables are 160 KB.
 *
 * @throws {RangeError} for a label that the Encoding Standard does not know
 */
export const legacyDecoder = (label: string, fatal: boolean, ignoreBOM: boolean): LegacyDecoder =>
  new TextDecoder(label, { fatal, ignoreBOM });
