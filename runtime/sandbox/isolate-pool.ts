import type { ReadyIsolate } from './isolate.ts';

/** Isolates made ahead of the requests. Each is taken once and never comes back. */
export interface IsolatePool {
  /** One that is ready, or a new one when there is none. */
  take(): ReadyIsolate | Promise<ReadyIsolate>;
  /** Fills up, one after another, between other work; call it after an answer has left. */
  refill(): void;
}

export function isolatePool(size: number, make: () => Promise<ReadyIsolate>): IsolatePool {
  const ready: ReadyIsolate[] = [];
  let filling = false;

  async function fill(): Promise<void> {
    while (ready.length < size) {
      await new Promise((resolve) => setImmediate(resolve)); // making one blocks the thread for milliseconds: let frames through between two
      ready.push(await make());
    }
  }
  return {
    take() {
      for (;;) {
        const next = ready.pop();
        if (next === undefined) return make();
        if (!next.isolate.isDisposed) return next;
      }
    },
    refill() {
      if (filling) return;
      filling = true;
      fill()
        .catch(() => undefined) // the next `take` makes its own, and tells its caller what is wrong
        .finally(() => (filling = false));
    },
  };
}
