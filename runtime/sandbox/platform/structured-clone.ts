import { Blob, copyBlob } from './blob.ts';
import { DOMException } from './dom-exception.ts';
import { isLoaded } from './lazy.ts';
import { dictionaryOf, needArguments, sequenceOf } from './web-idl.ts';

const ERRORS: Readonly<Record<string, ErrorConstructor>> = {
  Error,
  EvalError,
  RangeError,
  ReferenceError,
  SyntaxError,
  TypeError,
  URIError,
};

function refuse(what: string): never {
  throw new DOMException(`${what} could not be cloned`, 'DataCloneError');
}

/** HTML §2.7 for the types that exist here; `transfer` takes array buffers. */
export function structuredClone(value: unknown, ...rest: readonly unknown[]): unknown {
  needArguments(arguments.length, 1, 'structuredClone');
  const { transfer } = dictionaryOf(rest[0]);
  const seen = new Map<object, unknown>();
  const transfers = new Set<ArrayBuffer>();
  for (const item of transfer === undefined ? [] : sequenceOf(transfer, 'transfer')) {
    if (!(item instanceof ArrayBuffer) || transfers.has(item)) refuse('an item of transfer');
    transfers.add(item);
  }
  const result = clone(value, seen, transfers);
  // A failed clone must leave the buffers as they were, so they are cloned first and detached at the end.
  for (const buffer of transfers) if (buffer.detached) refuse('an item of transfer');
  for (const buffer of transfers) buffer.transfer();
  return result;
}

/** `[[Prototype]]` says nothing about these; a call of one of their methods does. */
const brands: readonly (readonly [string, (value: object) => unknown])[] = [
  ['Boolean', (value) => Boolean.prototype.valueOf.call(value)],
  ['Number', (value) => Number.prototype.valueOf.call(value)],
  ['String', (value) => String.prototype.valueOf.call(value)],
  ['BigInt', (value) => BigInt.prototype.valueOf.call(value)],
  ['Date', (value) => Date.prototype.valueOf.call(value)],
];
function brandOf(value: object): readonly [string, unknown] | undefined {
  for (const [name, read] of brands)
    try {
      return [name, read(value)];
    } catch {
      // another brand
    }
  return undefined;
}

function cloneBuffer(buffer: ArrayBuffer): ArrayBuffer {
  if (buffer.detached) refuse('a detached buffer');
  if (!buffer.resizable) return buffer.slice(0);
  const copy = new ArrayBuffer(buffer.byteLength, { maxByteLength: buffer.maxByteLength });
  new Uint8Array(copy).set(new Uint8Array(buffer));
  return copy;
}

function cloneView(view: ArrayBufferView, buffer: ArrayBuffer): ArrayBufferView {
  const name = view instanceof DataView ? 'DataView' : String(Reflect.get(Object.getPrototypeOf(Uint8Array.prototype) as object, Symbol.toStringTag, view)); // prettier-ignore
  const View = Reflect.get(globalThis, name) as new (buffer: ArrayBuffer, offset: number, length?: number) => DataView;
  const tracks = view.buffer instanceof ArrayBuffer && view.buffer.resizable && isTracking(view);
  if (tracks) return new View(buffer, view.byteOffset);
  return new View(buffer, view.byteOffset, view instanceof DataView ? view.byteLength : (view as Uint8Array).length);
}
function isOutOfBounds(view: ArrayBufferView): boolean {
  try {
    if (view instanceof DataView) void view.byteLength;
    else Uint8Array.prototype.at.call(view as Uint8Array, 0);
    return false;
  } catch {
    return true;
  }
}
/** Whether the view has no length of its own. */
function isTracking(view: ArrayBufferView): boolean {
  const { buffer, byteOffset } = view;
  const size = view instanceof DataView ? 1 : (view as Uint8Array).BYTES_PER_ELEMENT;
  return Math.floor((buffer.byteLength - byteOffset) / size) * size === view.byteLength;
}

function clone(value: unknown, seen: Map<object, unknown>, transfers: ReadonlySet<ArrayBuffer>): unknown {
  if (typeof value === 'symbol' || typeof value === 'function')
    refuse(typeof value === 'symbol' ? 'a symbol' : 'a function');
  if (typeof value !== 'object' || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  const keep = <T extends object>(copy: T): T => {
    seen.set(value, copy);
    return copy;
  };
  const inner = (item: unknown): unknown => clone(item, seen, transfers);
  if (value instanceof ArrayBuffer) return keep(cloneBuffer(value));
  if (ArrayBuffer.isView(value)) {
    if (!(value.buffer instanceof ArrayBuffer)) refuse('shared memory');
    if (value.buffer.detached) refuse('a view of a detached buffer');
    if (isOutOfBounds(value)) refuse('a view past its buffer');
    return keep(cloneView(value, inner(value.buffer) as ArrayBuffer));
  }
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (isLoaded('blob') && value instanceof Blob) return keep(copyBlob(value));
  if (value instanceof Map) {
    const copy = keep(new Map());
    for (const [key, item] of Array.from(value)) copy.set(inner(key), inner(item));
    return copy;
  }
  if (value instanceof Set) {
    const copy = keep(new Set());
    for (const item of Array.from(value)) copy.add(inner(item));
    return copy;
  }
  if (value instanceof DOMException) return keep(new DOMException(value.message, value.name));
  if (value instanceof Error) return keep(cloneError(value, inner));
  const brand = brandOf(value);
  if (brand !== undefined)
    return keep(brand[0] === 'Date' ? new Date(brand[1] as number) : (Object(brand[1]) as object));
  if (isPlatformObject(value)) refuse('the object');
  const isArray = Array.isArray(value);
  const copy = keep(isArray ? Object.assign([], { length: value.length }) : {}) as Record<string, unknown>;
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(value, key)) continue; // a getter took it away
    const item = inner((value as Record<string, unknown>)[key]);
    Object.defineProperty(copy, key, { value: item, writable: true, configurable: true, enumerable: true });
  }
  return copy;
}

function cloneError(error: Error, inner: (item: unknown) => unknown): Error {
  const name = String(error.name);
  const Constructor = Object.hasOwn(ERRORS, name) ? (ERRORS[name] as ErrorConstructor) : Error;
  const message = Reflect.getOwnPropertyDescriptor(error, 'message');
  const hasMessage = message !== undefined && 'value' in message;
  const copy = hasMessage ? new Constructor(String(message.value)) : new Constructor();
  const hidden = (key: string, value: unknown): void =>
    void Object.defineProperty(copy, key, { value, writable: true, configurable: true, enumerable: false });
  const cause = Reflect.getOwnPropertyDescriptor(error, 'cause');
  if (cause !== undefined && 'value' in cause) hidden('cause', inner(cause.value));
  const { stack } = error;
  if (stack !== undefined) hidden('stack', String(stack));
  return copy;
}

/** Objects of the language and of the platform that have more than properties. */
function isPlatformObject(value: object): boolean {
  if (value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef || value instanceof Promise)
    return true;
  if (value instanceof WebAssembly.Module || value instanceof WebAssembly.Memory) return true;
  const tag: unknown = Reflect.get(value, Symbol.toStringTag);
  if (typeof tag !== 'string') return false;
  // The classes of the platform name themselves so, on a prototype that the function did not make.
  const Interface: unknown = Reflect.get(globalThis, tag);
  return typeof Interface === 'function' && value instanceof Interface && tag !== 'Object';
}
