import { DOMException } from './dom-exception.ts';

/** Web IDL §2.8.2; in the place of the DOMException of that name. */
export class QuotaExceededError extends DOMException {
  readonly #quota: number | null;
  readonly #requested: number | null;

  constructor(message: unknown = '', options: { quota?: number; requested?: number } = {}) {
    super(message, 'QuotaExceededError');
    const amount = (value: unknown, what: string): number | null => {
      if (value === undefined) return null;
      const number = Number(value);
      if (!Number.isFinite(number)) throw new TypeError(`${what} is not a number`);
      if (number < 0) throw new RangeError(`${what} is negative`);
      return number;
    };
    this.#quota = amount(options?.quota, 'quota');
    this.#requested = amount(options?.requested, 'requested');
    if (this.#quota !== null && this.#requested !== null && this.#requested < this.#quota)
      throw new RangeError('less was requested than the quota');
  }
  get quota(): number | null {
    return this.#quota;
  }
  get requested(): number | null {
    return this.#requested;
  }
}
