import { stackDigger } from '../stack-digger.ts';

/** What happens within this time shares one cleaning, in ms. */
const SHARED_MS = 20;

const dig = stackDigger();
let due: NodeJS.Timeout | undefined;

/**
 * Has the stack of the main thread overwritten soon, below what runs. A signal leaves the vector registers there, and in them what the last
 * copy moved; the end of a child is a signal (sigreturn(2)).
 */
export function overwriteStackSoon(): void {
  due ??= setTimeout(() => {
    due = undefined;
    dig();
  }, SHARED_MS);
}
