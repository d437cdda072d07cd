/** As much of DER (X.690) as keys in PKCS #8 and SPKI are made of. What is read here was written by the process. */

export const [INTEGER, BIT_STRING, OCTET_STRING, OID, SEQUENCE] = [0x02, 0x03, 0x04, 0x06, 0x30] as const;
type Bytes = Uint8Array<ArrayBuffer>;

export function der(tag: number, ...parts: readonly ArrayLike<number>[]): Bytes {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const head = [tag];
  if (length < 0x80) head.push(length);
  else if (length < 0x100) head.push(0x81, length);
  else head.push(0x82, length >> 8, length & 0xff);
  const out = new Uint8Array(head.length + length);
  out.set(head);
  let at = head.length;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** A positive number from its big-endian bytes. */
export function derInteger(bytes: Uint8Array): Bytes {
  let from = 0;
  while (from < bytes.length - 1 && bytes[from] === 0) from++;
  const digits = bytes.subarray(from);
  return (digits[0] ?? 0) >= 0x80 ? der(INTEGER, [0], digits) : der(INTEGER, digits.length === 0 ? [0] : digits);
}

/** The contents of the elements that follow each other in `bytes`. */
export function elements(bytes: Bytes): Bytes[] {
  const found: Bytes[] = [];
  for (let at = 0; at < bytes.length;) {
    let length = bytes[at + 1] ?? 0;
    let start = at + 2;
    if (length >= 0x80) {
      const count = length & 0x7f;
      length = 0;
      for (let i = 0; i < count; i++) length = length * 256 + (bytes[start++] ?? 0);
    }
    if (start + length > bytes.length) throw new RangeError('an element ends past the input');
    found.push(bytes.subarray(start, start + length));
    at = start + length;
  }
  return found;
}

/** The digits of an integer's content, without the byte that keeps it positive. */
export const unsigned = (content: Bytes): Bytes =>
  content.length > 1 && content[0] === 0 ? content.subarray(1) : content;
