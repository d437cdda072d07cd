import type { InvokeTimings } from '../../proto/grpc.ts';

/** Steps of an invocation; `answered` is the last piece of the answer so far. */
export type Step = 'opened' | 'started' | 'answered' | 'wiped';

/** When the steps of an invocation were over. */
export interface Timeline {
  /** The step is over, for now. */
  mark(step: Step): void;
  /** From the last piece of the answer to the sandbox's word that it is wiped, in ms; 0 where there was no answer. */
  wipeMs(): number;
  /** What a trace is told: times alone. @param engineMs as the sandbox counts it */
  timings(engineMs: number): InvokeTimings;
}

/** Times leave the worker in steps of so many microseconds: finer ones would carry more than they tell. */
const STEP_US = 100;

export function timeline(monotonicMs: () => number): Timeline {
  const began = monotonicMs();
  const over = new Map<Step, number>();
  const coarse = (ms: number): number => Math.floor((ms * 1000) / STEP_US) * STEP_US;
  const us = (step: Step): number => coarse(over.get(step) ?? 0);
  return {
    mark: (step) => void over.set(step, monotonicMs() - began),
    wipeMs() {
      const [answered, wiped] = [over.get('answered'), over.get('wiped')];
      return answered === undefined || wiped === undefined ? 0 : wiped - answered;
    },
    timings: (engineMs) => ({
      openedUs: us('opened'),
      startedUs: us('started'),
      answeredUs: us('answered'),
      wipedUs: us('wiped'),
      engineUs: coarse(engineMs),
    }),
  };
}
