/** Marks the constructor call of our own; nobody outside has it. */
const OURS = Object.freeze({});

/** As the Minimum Common Web API has it: a name, and nothing about the machine. */
export class Navigator {
  readonly #userAgent = 'cfn';
  constructor(...incoming: readonly unknown[]) {
    if (incoming[0] !== OURS) throw new TypeError('Illegal constructor');
  }
  get userAgent(): string {
    return this.#userAgent;
  }
}
export const navigator = new Navigator(OURS);
