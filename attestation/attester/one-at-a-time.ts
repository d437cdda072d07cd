import { setTimeout as sleepMs } from 'node:timers/promises';
import { refuse, type Reason } from '../evidence/reasons.ts';

export interface TurnLimits {
  /** Callers that may wait behind the one whose turn it is. */
  readonly waitingMax: number;
  /** From the call to its answer, waiting included. */
  readonly timeoutMs: number;
  /** What is waited for, for messages. */
  readonly what: string;
  readonly timeoutReason: Reason;
}

/** Runs work in turn: `signal` is aborted when nobody waits for the answer any more. */
export type InTurn = <T>(work: (signal: AbortSignal) => Promise<T>) => Promise<T>;

/**
 * A queue for a device that does one thing at a time. A caller waits no longer than the limit, but its turn ends only when its work
 * really ends: a read that hangs in the kernel cannot be cancelled, and a second one would hang behind it and take one more thread.
 *
 * @throws {Refusal} `collect/queue-full`, or the reason for a timeout.
 */
export function oneAtATime({ waitingMax, timeoutMs, what, timeoutReason }: TurnLimits): InTurn {
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;
  return async (work) => {
    if (waiting > waitingMax) refuse('collect/queue-full', `${waiting} callers wait for a ${what} already`);
    waiting += 1;
    const given = new AbortController();
    const mine = last.then(async () => {
      given.signal.throwIfAborted(); // nobody waits: do not start
      return work(given.signal);
    });
    last = mine.then(
      () => (waiting -= 1),
      () => (waiting -= 1),
    );
    const answered = new AbortController();
    const timeout = sleepMs(timeoutMs, undefined, { signal: answered.signal }).then(() => {
      given.abort();
      return refuse(timeoutReason, `no ${what} within ${timeoutMs} ms`);
    });
    try {
      return await Promise.race([mine, timeout]);
    } finally {
      answered.abort();
      timeout.catch(() => undefined);
      mine.catch(() => undefined);
    }
  };
}
