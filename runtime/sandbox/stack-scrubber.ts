import ivm from 'isolated-vm';
import { stackDigger } from '../stack-digger.ts';

/** Writes over what functions left on the stacks of the threads that ran them: below its last frame a stack stays as it is. */
export interface StackScrubber {
  /**
   * Makes what it needs, once. To be awaited before the first function runs: an isolate made afterwards could be given pages that a
   * function used, and these are kept for good.
   */
  prepare(): Promise<void>;
  /** When nothing runs. Resolves when all stacks are overwritten. */
  scrub(): Promise<void>;
}

type Digger = ivm.Reference<(target: number) => void>;

/** `threads`: those that run isolates; isolated-vm has one more than there are processors. Each gets an isolate of ours, kept for good. */
export function stackScrubber(threads: number): StackScrubber {
  let diggers: Promise<Digger[]> | undefined;
  let rounds = 0;
  let turn: Promise<unknown> = Promise.resolve();

  async function make(): Promise<Digger[]> {
    const shared = new ivm.ExternalCopy(new SharedArrayBuffer(4));
    return Promise.all(
      Array.from({ length: threads }, async () => {
        const context = await new ivm.Isolate({ memoryLimit: 16 }).createContext();
        const dig = await context.evalClosure(DIGGER, [shared.copyInto()], { result: { reference: true } });
        return dig as Digger;
      }),
    );
  }
  const prepared = (): Promise<Digger[]> => (diggers ??= make());
  return {
    async prepare() {
      await prepared();
    },
    async scrub() {
      const digging = turn.then(async () => {
        const target = ++rounds * threads;
        await Promise.all((await prepared()).map((dig) => dig.apply(undefined, [target])));
      });
      turn = digging.catch(() => undefined);
      await digging;
    },
  };
}

// All wait until all have started, so that each is on a thread of its own and no stack is left out; not for long, should there be
// fewer threads.
const DIGGER = `const counter = new Int32Array($0);
const dig = (${stackDigger.toString()})();
return (target) => {
  Atomics.add(counter, 0, 1);
  Atomics.notify(counter, 0);
  for (let seen; (seen = Atomics.load(counter, 0)) < target; ) if (Atomics.wait(counter, 0, seen, 200) === 'timed-out') break;
  dig();
};`;
