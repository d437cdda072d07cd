const decoder = new TextDecoder('latin1');

/** Bytes as a key of a map. Any two byte strings give different keys, as each byte has its own character. */
export function mapKey(bytes: Uint8Array): string {
  return decoder.decode(bytes);
}
