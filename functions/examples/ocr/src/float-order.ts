// Floats that are not negative have the order of their bits read as an integer (IEEE 754 §5.10). Comparing the bits is what a
// fresh isolate does fast: it interprets at first, and there each float read from an array becomes an object on the heap.

/** The bits of each float of `values`, in place. */
export function bitsOf(values: Float32Array): Int32Array {
  return new Int32Array(values.buffer, values.byteOffset, values.length);
}

/** The bits of one float. */
export function bitsOfNumber(value: number): number {
  return bitsOf(Float32Array.of(value))[0] ?? 0;
}
