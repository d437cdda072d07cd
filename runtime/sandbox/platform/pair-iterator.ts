/** Web IDL §3.7.9, "iterable": the pairs are read anew at each step, for they may change while somebody iterates. */
type Pair = readonly [string, unknown];
type Kind = 'key' | 'value' | 'key+value';

const IteratorPrototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())) as object;

/** Makes `entries`, `keys` and `values` of an interface. */
export function pairIterators<Target extends object>(
  name: string,
  pairsOf: (target: Target) => readonly Pair[],
): (target: Target, kind: Kind) => IterableIterator<unknown> {
  class PairIterator {
    readonly #target: Target;
    readonly #kind: Kind;
    #index = 0;
    constructor(target: Target, kind: Kind) {
      this.#target = target;
      this.#kind = kind;
    }
    next(): IteratorResult<unknown> {
      const pair = pairsOf(this.#target)[this.#index];
      if (pair === undefined) return { value: undefined, done: true };
      this.#index += 1;
      const value = this.#kind === 'key' ? pair[0] : this.#kind === 'value' ? pair[1] : [pair[0], pair[1]];
      return { value, done: false };
    }
  }
  const { prototype } = PairIterator;
  Object.setPrototypeOf(prototype, IteratorPrototype);
  Reflect.deleteProperty(prototype, 'constructor');
  Object.defineProperty(prototype, 'next', { enumerable: true });
  Object.defineProperty(prototype, Symbol.toStringTag, { value: `${name} Iterator`, configurable: true });
  return (target, kind) => new PairIterator(target, kind) as unknown as IterableIterator<unknown>;
}

export function needCallback(callback: unknown): asserts callback is (...args: unknown[]) => unknown {
  if (typeof callback !== 'function') throw new TypeError('the callback is not a function');
}
