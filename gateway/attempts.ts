import type { CfnError } from '../proto/index.ts';

/** Attempts at something that bears only one at a time. */
export interface Attempts {
  /**
   * Stops the attempt at `name` that is under way, waits until it has ended, and then works. Where another comes meanwhile, the work has to
   * end as soon as its signal aborts.
   *
   * @param why what the one under way is stopped with
   */
  next<T>(name: string, why: CfnError, work: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

export function attempts(): Attempts {
  const last = new Map<string, { readonly stop: AbortController; readonly ended: Promise<void> }>();
  return {
    async next(name, why, work) {
      const before = last.get(name);
      const stop = new AbortController();
      const { promise: ended, resolve: end } = Promise.withResolvers<void>();
      last.set(name, { stop, ended });
      before?.stop.abort(why);
      try {
        await before?.ended; // also where a third has come: that one waits for both
        stop.signal.throwIfAborted();
        return await work(stop.signal);
      } finally {
        if (last.get(name)?.stop === stop) last.delete(name);
        end();
      }
    },
  };
}
