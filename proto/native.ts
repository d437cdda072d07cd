/**
 * Node's own modules, where this runs in Node; `undefined` elsewhere. No import, so that browsers and isolates can load what uses it. There
 * WebCrypto sends each small operation to a pool of threads and back, which costs more than most operations themselves.
 */
export const nodeCrypto = (
  globalThis as { readonly process?: { getBuiltinModule?: typeof process.getBuiltinModule } }
).process?.getBuiltinModule?.('node:crypto');
export const NodeBuffer = (globalThis as { readonly Buffer?: typeof Buffer }).Buffer;
