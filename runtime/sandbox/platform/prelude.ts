import { TextDecoder, TextEncoder } from './utf8.ts';

// Imported first: what libraries look for while they load. V8 has no SharedArrayBuffer while a snapshot is made, and
// webidl-conversions reads its accessors; `dropStandIns` takes the stand-in away again.
Object.assign(globalThis, { TextDecoder, TextEncoder });
const standIn = typeof SharedArrayBuffer === 'undefined';
if (standIn) {
  class SharedArrayBufferStandIn {
    get byteLength(): number {
      throw new TypeError('not a SharedArrayBuffer');
    }
    get growable(): boolean {
      throw new TypeError('not a SharedArrayBuffer');
    }
  }
  Object.defineProperty(globalThis, 'SharedArrayBuffer', {
    value: SharedArrayBufferStandIn,
    writable: true,
    configurable: true,
  });
}

export function dropStandIns(): void {
  if (standIn) Reflect.deleteProperty(globalThis, 'SharedArrayBuffer');
}
