/** A part of the platform that is not in the core: a module of this folder and the globals that it brings. */
interface Part {
  readonly module: string;
  readonly globals: readonly string[];
}

/**
 * All lazy parts. A part is evaluated when the bundle names one of its globals, before the bundle is; otherwise when one of its globals
 * or exports is first touched. Modules import a part's module as any other: the build makes that import lazy. Two rules, which the
 * build holds: nothing of a part is touched while the core is evaluated, and a module of ours is in one part only, or in the core.
 */
export const PARTS = {
  abort: { module: 'abort.ts', globals: ['AbortController', 'AbortSignal'] },
  blob: { module: 'blob.ts', globals: ['Blob', 'File'] },
  compression: { module: 'compression-streams.ts', globals: ['CompressionStream', 'DecompressionStream'] },
  console: { module: 'console.ts', globals: ['console'] },
  'cors-safelist': { module: 'cors-safelist.ts', globals: [] },
  crypto: { module: 'crypto.ts', globals: ['Crypto', 'crypto'] },
  events: {
    module: 'events.ts',
    globals: [
      'addEventListener',
      'CustomEvent',
      'dispatchEvent',
      'ErrorEvent',
      'Event',
      'EventTarget',
      'PromiseRejectionEvent',
      'removeEventListener',
      'reportError',
    ],
  },
  fetch: { module: 'fetch.ts', globals: [] }, // nearly every bundle names `fetch`: its own handler
  'form-data': { module: 'form-data.ts', globals: ['FormData'] },
  idna: { module: 'idna.ts', globals: [] },
  'legacy-encodings': { module: 'legacy-encodings.ts', globals: [] },
  'message-channel': { module: 'message-channel.ts', globals: ['MessageChannel', 'MessageEvent', 'MessagePort'] },
  'mime-type': { module: 'mime-type.ts', globals: [] },
  navigator: { module: 'navigator.ts', globals: ['Navigator', 'navigator'] },
  performance: { module: 'performance.ts', globals: ['Performance', 'performance'] },
  'quota-exceeded-error': { module: 'quota-exceeded-error.ts', globals: ['QuotaExceededError'] },
  'request-settings': { module: 'request-settings.ts', globals: [] },
  'structured-clone': { module: 'structured-clone.ts', globals: ['structuredClone'] },
  streams: {
    module: 'streams.ts',
    globals: [
      'ByteLengthQueuingStrategy',
      'CountQueuingStrategy',
      'ReadableByteStreamController',
      'ReadableStream',
      'ReadableStreamBYOBReader',
      'ReadableStreamBYOBRequest',
      'ReadableStreamDefaultController',
      'ReadableStreamDefaultReader',
      'TextDecoderStream',
      'TextEncoderStream',
      'TransformStream',
      'TransformStreamDefaultController',
      'WritableStream',
      'WritableStreamDefaultController',
      'WritableStreamDefaultWriter',
    ],
  },
  'subtle-crypto': { module: 'subtle-crypto.ts', globals: ['CryptoKey', 'SubtleCrypto'] },
  'url-pattern': { module: 'url-pattern.ts', globals: ['URLPattern'] },
  'windows-1252': { module: 'windows-1252.ts', globals: [] },
  url: { module: 'url.ts', globals: ['URL', 'URLSearchParams'] },
} as const satisfies Readonly<Record<string, Part>>;

/** What a part reads of the language by name. It gets them as they were at the start, whatever the function has put in their place. */
export const INTRINSICS = [
  'Array',
  'ArrayBuffer',
  'BigInt',
  'Boolean',
  'DataView',
  'Date',
  'Error',
  'Function',
  'JSON',
  'Map',
  'Math',
  'Number',
  'Object',
  'Promise',
  'Proxy',
  'RangeError',
  'Reflect',
  'RegExp',
  'Set',
  'String',
  'Symbol',
  'SyntaxError',
  'TypeError',
  'Uint8Array',
  'WeakMap',
  'WeakSet',
] as const;

export type PartName = keyof typeof PARTS;
