import ivm from 'isolated-vm';

/**
 * Overwrites what disposed isolates leave in the process. V8 keeps the pages of an isolate's heap, as they are, for the next isolates,
 * and gives them back to the system after 8 seconds (`PagePool::ReleaseOnTearDown`); threads keep the stack below their last frame.
 * So isolates of our own take those pages, fill them with zeros and write over the stacks.
 *
 * Best effort, by what V8 13 does: the test searches the memory of the process.
 */
export interface Scrubber {
  /** An isolate with a heap of this size was disposed. */
  note(heapBytes: number): void;
  readonly dirty: boolean;
  scrub(): Promise<void>;
}

const MiB = 1024 * 1024;
/**
 * What one scrub overwrites at most, in bytes; more is left to the 8 seconds. Isolates that follow each other use the same pages, so
 * after a busy time the sum of their heaps says too much; and a scrub takes as much memory as it overwrites, times the surplus.
 */
const SCRUB_BYTES_MAX = 64 * MiB;
/** Pages come back in no order of ours: take more than were given. */
const SURPLUS = 3;
const SURPLUS_BYTES = 8 * MiB;
/** What a scrub adds to the resident memory at most, for as long as V8 keeps the pages, in bytes. */
export const SCRUB_RESIDENT_BYTES_MAX = SCRUB_BYTES_MAX * SURPLUS + SURPLUS_BYTES;

/** `threads`: those that run isolates; isolated-vm has one more than there are processors. */
export function scrubber(threads: number): Scrubber {
  let bytes = 0;
  return {
    note: (heapBytes) => (bytes = Math.min(SCRUB_BYTES_MAX, bytes + heapBytes)),
    get dirty() {
      return bytes > 0;
    },
    async scrub() {
      const share = (bytes * SURPLUS + SURPLUS_BYTES) / threads;
      bytes = 0;
      const isolates = Array.from({ length: threads }, () => new ivm.Isolate({ memoryLimit: memoryLimit(share) }));
      try {
        const contexts = await Promise.all(isolates.map((isolate) => isolate.createContext()));
        const count = Math.ceil(share / SPONGE_ITEM_BYTES);
        const started = new ivm.ExternalCopy(new SharedArrayBuffer(4));
        const run = (context: ivm.Context): Promise<unknown> =>
          context.evalClosure(`return (${SPONGE})($0, $1, $2)`, [count, started.copyInto(), threads]);
        await Promise.all(contexts.map(run));
        started.release();
      } finally {
        for (const isolate of isolates) if (!isolate.isDisposed) isolate.dispose();
      }
    },
  };
}

// All wait until all have started, so that each is on a thread of its own and no thread's stack is left out; not for ever, should
// there be fewer threads. Small arrays, so that little is left over at the end of a page. A deep call with many arguments writes over
// the stack.
const SPONGE = `(count, started, threads) => {
  const counter = new Int32Array(started);
  Atomics.add(counter, 0, 1);
  Atomics.notify(counter, 0);
  for (let seen; (seen = Atomics.load(counter, 0)) < threads; ) if (Atomics.wait(counter, 0, seen, 200) === 'timed-out') break;
  const keep = [];
  for (let i = 0; i < count; i++) keep.push([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, i]);
  const dig = (n, a, b, c, d, e, f, g, h, i, j, k, l, m, o, p) => (n > 0 ? dig(n - 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) + 1 : 0);
  return keep.length + dig(2000);
}`;
const SPONGE_ITEM_BYTES = 184; // array, its elements and the place in `keep`

const memoryLimit = (bytes: number): number => Math.max(64, Math.ceil((bytes * 4) / MiB));
