import type { ReadyIsolate } from './isolate.ts';

/** Isolates made ahead of the requests. Each is taken once and never comes back. */
export interface IsolatePool {
  /** One that is ready, or a new one when there is none. */
  take(): ReadyIsolate | Promise<ReadyIsolate>;
  readonly size: number;
  /** Fills up to `count`, one after another, between other work. */
  refill(count?: number): Promise<void>;
  /**
   * Ends the filling that is under way, and disposes those made since `settle`, for the memory they were given could hold what others
   * left; answers how many.
   */
  dropRecent(): Promise<number>;
  settle(): void;
  /** Makes all of them recent ones. */
  unsettle(): void;
}

/** @param first one that was made already */
export function isolatePool(target: number, make: () => Promise<ReadyIsolate>, first?: ReadyIsolate): IsolatePool {
  let settled: ReadyIsolate[] = [];
  let recent: ReadyIsolate[] = first === undefined ? [] : [first];
  let filling: Promise<void> | undefined;
  let wanted = 0;
  let stopping = false;

  async function fill(): Promise<void> {
    while (!stopping && settled.length + recent.length < wanted) {
      await new Promise((resolve) => setImmediate(resolve)); // making one blocks the thread for milliseconds: let frames through between two
      recent.push(await make());
    }
  }
  return {
    get size() {
      return settled.length + recent.length;
    },
    take() {
      for (;;) {
        const next = recent.pop() ?? settled.pop();
        if (next === undefined) return make();
        if (!next.isolate.isDisposed) return next;
      }
    },
    refill(count = target) {
      wanted = Math.max(wanted, Math.min(count, target));
      filling ??= fill()
        .catch(() => undefined) // the next `take` makes its own, and tells its caller what is wrong
        .finally(() => {
          filling = undefined;
          wanted = 0;
        });
      return filling;
    },
    async dropRecent() {
      stopping = true;
      await filling;
      stopping = false;
      const dropped = recent.filter(({ isolate }) => !isolate.isDisposed);
      for (const { isolate } of dropped) isolate.dispose();
      recent = [];
      return dropped.length;
    },
    settle() {
      settled = settled.concat(recent);
      recent = [];
    },
    unsettle() {
      recent = recent.concat(settled);
      settled = [];
    },
  };
}
