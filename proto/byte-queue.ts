/** Bytes that arrived in pieces and are taken in other pieces, without copying where one piece holds what is asked. */
export interface ByteQueue {
  readonly length: number;
  /** Length of the oldest piece; 0 when empty. */
  readonly firstLength: number;
  /** The next byte; 0 when empty. */
  readonly firstByte: number;
  append(bytes: Uint8Array): void;
  /** `length` bytes, which must be there: a view where one piece holds them, otherwise a copy. */
  take(length: number): Uint8Array;
}

export function createByteQueue(): ByteQueue {
  let pieces: Uint8Array[] = [];
  let first = 0;
  let length = 0;

  function takeView(limit: number): Uint8Array {
    const piece = pieces[first] ?? new Uint8Array(0);
    const view = piece.subarray(0, limit);
    length -= view.length;
    if (view.length === piece.length) first += 1;
    else pieces[first] = piece.subarray(view.length);
    if (first === pieces.length || first >= 1024) {
      pieces = pieces.slice(first); // shift() per piece would be quadratic
      first = 0;
    }
    return view;
  }
  return {
    get length() {
      return length;
    },
    get firstLength() {
      return pieces[first]?.length ?? 0;
    },
    get firstByte() {
      return pieces[first]?.[0] ?? 0;
    },
    append(bytes) {
      if (bytes.length === 0) return;
      pieces.push(bytes);
      length += bytes.length;
    },
    take(wanted) {
      if (wanted > length) throw new RangeError(`${wanted} bytes asked, ${length} there`);
      if (wanted === 0) return new Uint8Array(0);
      const view = takeView(wanted);
      if (view.length === wanted) return view;
      const out = new Uint8Array(wanted);
      out.set(view);
      for (let at = view.length; at < wanted;) {
        const next = takeView(wanted - at);
        out.set(next, at);
        at += next.length;
      }
      return out;
    },
  };
}
