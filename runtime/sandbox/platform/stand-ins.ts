const { defineProperty, deleteProperty } = Reflect;

class SharedArrayBufferStandIn {
  get byteLength(): number {
    throw new TypeError('not a SharedArrayBuffer');
  }
  get growable(): boolean {
    throw new TypeError('not a SharedArrayBuffer');
  }
}

/** V8 has no SharedArrayBuffer while a snapshot is made, and webidl-conversions reads its accessors when it loads. */
export function withStandIns(evaluate: () => void): void {
  if (typeof SharedArrayBuffer !== 'undefined') return evaluate();
  defineProperty(globalThis, 'SharedArrayBuffer', { value: SharedArrayBufferStandIn, configurable: true });
  try {
    evaluate();
  } finally {
    deleteProperty(globalThis, 'SharedArrayBuffer');
  }
}
