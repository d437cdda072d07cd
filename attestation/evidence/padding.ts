/**
 * Whether the bytes are fill: all 0x00 or all 0xff, which is how firmware clears memory and how non-volatile storage looks when it
 * is erased. No bytes at all are fill, too.
 */
export function isFill(bytes: Uint8Array): boolean {
  const [first = 0] = bytes;
  return (first === 0 || first === 0xff) && bytes.every((byte) => byte === first);
}
