import { Blob } from './blob.ts';
import { isLoaded } from './lazy.ts';
import { DOMException } from './dom-exception.ts';

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
export function structuredClone(value: unknown, options: { transfer?: Iterable<unknown> } = {}): unknown {
  const seen = new Map<object, unknown>();
  for (const item of options?.transfer ?? []) {
    if (!(item instanceof ArrayBuffer) || item.detached || seen.has(item)) refuse('an item of transfer');
    seen.set(item, undefined);
  }
  const transfers = [...seen.keys()] as ArrayBuffer[];
  // A failed clone must leave the buffers as they were, so they are cloned first and detached at the end.
  seen.clear();
  const result = clone(value, seen);
  for (const buffer of transfers) buffer.transfer();
  return result;
}

function clone(value: unknown, seen: Map<object, unknown>): unknown {
  if (typeof value === 'symbol' || typeof value === 'function')
    refuse(typeof value === 'symbol' ? 'a symbol' : 'a function');
  if (typeof value !== 'object' || value === null) return value;
  if (seen.has(value)) return seen.get(value);
  const keep = <T extends object>(copy: T): T => {
    seen.set(value, copy);
    return copy;
  };
  if (value instanceof ArrayBuffer) return keep(value.slice(0));
  if (ArrayBuffer.isView(value)) {
    const buffer = clone(value.buffer, seen) as ArrayBuffer;
    const View = value.constructor as new (buffer: ArrayBuffer, offset: number, length: number) => object;
    return keep(
      new View(buffer, value.byteOffset, value instanceof DataView ? value.byteLength : (value as Uint8Array).length),
    );
  }
  if (value instanceof Date) return keep(new Date(value.getTime()));
  if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
  if (isLoaded('blob') && value instanceof Blob) return value; // immutable
  if (value instanceof Boolean || value instanceof Number || value instanceof String || value instanceof BigInt)
    return keep(Object(value.valueOf()) as object);
  if (value instanceof Map) {
    const copy = keep(new Map());
    for (const [key, item] of Array.from(value)) copy.set(clone(key, seen), clone(item, seen));
    return copy;
  }
  if (value instanceof Set) {
    const copy = keep(new Set());
    for (const item of Array.from(value)) copy.add(clone(item, seen));
    return copy;
  }
  if (value instanceof DOMException) return keep(new DOMException(value.message, value.name));
  if (value instanceof Error) {
    const copy = keep(new (ERRORS[value.name] ?? Error)(value.message));
    if ('cause' in value) copy.cause = clone(value.cause, seen);
    if (value.stack !== undefined) copy.stack = value.stack;
    return copy;
  }
  if (value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef || value instanceof Promise)
    refuse('the object');
  const copy = keep(Array.isArray(value) ? Object.assign([], { length: value.length }) : {}) as Record<string, unknown>;
  for (const key of Object.keys(value)) copy[key] = clone((value as Record<string, unknown>)[key], seen);
  return copy;
}
