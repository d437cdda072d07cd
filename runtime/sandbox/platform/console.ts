import { domString } from './dom-string.ts';

const nothing = (): undefined => undefined;
/** These turn their label into a string, which may throw. */
const labelled = (label: unknown = 'default'): void => void domString(label);

/** Console Standard §1. Output of functions goes nowhere: it could hold request data. */
export const console = Object.create({}) as object;
const members: Record<string, (...args: readonly unknown[]) => void> = {
  assert: nothing,
  clear: nothing,
  count: labelled,
  countReset: labelled,
  debug: nothing,
  dir: nothing,
  dirxml: nothing,
  error: nothing,
  group: nothing,
  groupCollapsed: nothing,
  groupEnd: nothing,
  info: nothing,
  log: nothing,
  table: nothing,
  time: labelled,
  timeEnd: labelled,
  timeLog: labelled,
  trace: nothing,
  warn: nothing,
};
for (const [name, does] of Object.entries(members)) {
  const { [name]: method } = { [name]: (...args: readonly unknown[]): void => does(...args) };
  Object.defineProperty(console, name, { value: method, writable: true, configurable: true, enumerable: true });
}
Object.defineProperty(console, Symbol.toStringTag, { value: 'console', configurable: true });
