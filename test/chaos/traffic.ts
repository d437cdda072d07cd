import { createHash, randomBytes, randomInt } from 'node:crypto';
import { confidentialFetch, type ConfidentialFetch } from '../../client/index.ts';
import { CfnError, ERRORS, fromProblem, type ErrorCode } from '../../proto/index.ts';
import { nodeHasher, nodeSuite } from '../../proto/node.ts';
import type { Fleet } from './fleet.ts';

export type Mode = 'open' | 'sealed';

/** What came of one request. */
export interface Outcome {
  readonly mode: Mode;
  /** Wall clock, ms since the epoch. */
  readonly startedAt: number;
  readonly ms: number;
  /** `ok`: whole, and the right answer. `wrong`: an answer that is neither that nor an error. `cut`: the connection broke. */
  readonly result: 'ok' | 'wrong' | 'cut' | ErrorCode;
}

export interface Traffic {
  readonly outcomes: readonly Outcome[];
  /** Resolves when so many more requests, begun from now on, have ended. */
  more(count: number): Promise<void>;
  /** Ends when all requests under way have ended, or were given up after `hangMs`. */
  stop(): Promise<readonly Outcome[]>;
}

/** A request that takes longer hangs. */
export const HANG_MS = 40_000;
const SHORT_MS = 20;

export const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Requests on a few lanes in both modes until it is stopped, each with a body of its own whose digest is the only right answer.
 * No lane retries: what a fault does to callers is to be seen.
 */
export function startTraffic(fleet: Fleet, { lanes = 4 } = {}): Traffic {
  const outcomes: Outcome[] = [];
  let stopped = false;
  const lane = async (mode: Mode, index: number): Promise<void> => {
    const gateway = (): string => fleet.gateways[index % fleet.gateways.length]?.url ?? '';
    let sealed: ConfidentialFetch | undefined;
    while (!stopped) {
      const body = new Uint8Array(randomBytes(randomInt(1, 8_000)));
      const startedAt = Date.now();
      const began = performance.now();
      const call = async (): Promise<Outcome['result']> => {
        const path = `/?wait=${randomInt(0, SHORT_MS)}`;
        const init = { method: 'POST', body, signal: AbortSignal.timeout(HANG_MS) };
        if (mode === 'open') return judge(await fetch(`${gateway()}/f/acme/echo${path}`, init), body);
        sealed ??= await confidentialFetch({
          endpoint: gateway(),
          function: 'acme/echo',
          policy: fleet.policy,
          suite: nodeSuite,
          hasher: nodeHasher,
        });
        return judge(await sealed(path, init), body);
      };
      const result = await call().catch((cause: unknown) => (cause instanceof CfnError ? cause.code : 'cut'));
      outcomes.push({ mode, startedAt, ms: performance.now() - began, result });
      await sleep(result === 'ok' ? 5 : 50);
    }
  };
  const done = Promise.all(Array.from({ length: lanes }, (_, i) => lane(i % 2 === 0 ? 'open' : 'sealed', i >> 1)));
  return {
    outcomes,
    async more(count) {
      const from = Date.now();
      while (outcomes.filter(({ startedAt }) => startedAt >= from).length < count) await sleep(20);
    },
    async stop() {
      stopped = true;
      await done;
      return outcomes;
    },
  };
}

async function judge(response: Response, body: Uint8Array): Promise<Outcome['result']> {
  const text = await response.text();
  if (response.status === 200) return text === createHash('sha256').update(body).digest('hex') ? 'ok' : 'wrong';
  try {
    return fromProblem(JSON.parse(text))?.code ?? 'wrong';
  } catch {
    return 'wrong';
  }
}

/** What asked-for faults may not do to callers, whatever they are. Gives what is wrong, in words; empty when nothing is. */
export function faultsOf(outcomes: readonly Outcome[], { cutsAllowed = false } = {}): string[] {
  const wrong: string[] = [];
  for (const { mode, ms, result } of outcomes) {
    if (result === 'wrong') wrong.push(`${mode}: a wrong answer, or one without a code`);
    else if (result === 'cut' && !cutsAllowed) wrong.push(`${mode}: cut without a code`);
    else if (result !== 'ok' && result !== 'cut' && isTheirs(result))
      wrong.push(`${mode}: blamed on the caller with ${result}`);
    if (ms > HANG_MS) wrong.push(`${mode}: ${Math.round(ms)} ms, with ${result}`);
  }
  return [...new Set(wrong)];
}

/** A right request is never to be changed because of a fault of ours. */
const isTheirs = (code: ErrorCode): boolean =>
  ERRORS[code].fault === 'caller' && new CfnError(code, '').next === 'stop';
