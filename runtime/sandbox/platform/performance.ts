import { elapsedMs, timeOrigin } from './clock.ts';
import { EventTarget } from './events.ts';

/** Marks the constructor call of our own; nobody outside has it. */
const OURS = Object.freeze({});

/** High Resolution Time §7; its clock is coarse. */
export class Performance extends EventTarget {
  readonly #ours = true;
  constructor(...incoming: readonly unknown[]) {
    if (incoming[0] !== OURS) throw new TypeError('Illegal constructor');
    super();
  }
  now(): number {
    void this.#ours; // throws for another `this`
    return elapsedMs();
  }
  get timeOrigin(): number {
    void this.#ours;
    return timeOrigin();
  }
  toJSON(): { timeOrigin: number } {
    return { timeOrigin: this.timeOrigin };
  }
}
export const performance = new Performance(OURS);
