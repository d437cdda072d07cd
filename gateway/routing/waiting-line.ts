import { CfnError, toCfnError } from '../../proto/index.ts';

/** Longest wait for a worker, in ms: a caller who would wait longer is told so at once, and can go elsewhere. */
const WAIT_MS_MAX = 5_000;
/** Requests that wait for the same, and in all. */
const WAITING_MAX = { together: 200, all: 10_000 } as const;
/** What a caller is told to wait, in seconds. */
const RETRY_AFTER = { min: 1, max: 60 } as const;
/** Weight of the newest gap between two requests that ended. */
const PACE_WEIGHT = 0.2;

/** One request that waits. */
interface Waiting<T> {
  readonly take: () => T | undefined;
  readonly settle: (outcome: Outcome<T>) => void;
}
type Outcome<T> = { readonly taken: T } | { readonly failure: CfnError };

/** Requests that wait for the same, first come first served. */
type Queue<T> = Set<Waiting<T>>;

/** What waits of one tenant. */
interface OfTenant<T> {
  /** By name, in the order of their turns: who was served goes to the end. */
  readonly queues: Map<string, Queue<T>>;
  length: number;
}

/** How fast requests for a version end, here. */
interface Pace {
  gapMs: number;
  lastMs: number;
}

export interface Wait<T> {
  readonly tenant: string;
  readonly version: string;
  /** What it waits for: any worker of the version, or the one that it was sealed to. */
  readonly queue: string;
  /** Takes what is waited for, if it is there. Throws where it will never be. */
  readonly take: () => T | undefined;
  /** Aborts when the caller goes away. */
  readonly gone?: AbortSignal | undefined;
}

/**
 * Where requests wait while all workers that they could go to are at their limit. Tenants take turns: one who sends much waits behind
 * their own, and not others behind them.
 */
export interface WaitingLine<T> {
  /** @throws {CfnError} `CFN_BUSY` with the seconds to wait, at once where waiting would be in vain; `CFN_ABORTED` */
  wait(it: Wait<T>): Promise<T>;
  /** Whether a request waits for the same: one that comes now must not pass it. */
  isWaiting(queue: string): boolean;
  /** Something may have got free. */
  serve(): void;
  /** A request for the version has ended. */
  ended(version: string): void;
  length(): number;
}

export function waitingLine<T>(deps: {
  readonly monotonicMs: () => number;
  readonly onShed?: (() => void) | undefined;
}): WaitingLine<T> {
  const { monotonicMs } = deps;
  /** In the order of their turns: who was served goes to the end. */
  const tenants = new Map<string, OfTenant<T>>();
  const names = new Set<string>(); // of all queues
  const paces = new Map<string, Pace>();
  let length = 0;

  /** When the request at this place of the line has its turn, in ms, as things go; unknown where nothing has ended lately. */
  function expectedMs(version: string, place: number): number | undefined {
    const pace = paces.get(version);
    return pace === undefined ? undefined : pace.gapMs * place;
  }
  function busy(version: string, waiting: number): CfnError {
    deps.onShed?.();
    const seconds = Math.ceil((expectedMs(version, waiting + 1) ?? 0) / 1000);
    const retryAfterSeconds = Math.min(RETRY_AFTER.max, Math.max(RETRY_AFTER.min, seconds));
    return new CfnError('CFN_BUSY', `every worker of this function is at its limit, and ${waiting} requests wait`, {
      retryAfterSeconds,
    });
  }
  function enter(tenant: string, name: string, it: Waiting<T>): void {
    const line = tenants.get(tenant) ?? { queues: new Map<string, Queue<T>>(), length: 0 };
    const queue = line.queues.get(name) ?? new Set();
    tenants.set(tenant, line);
    line.queues.set(name, queue);
    names.add(name);
    queue.add(it);
    line.length++;
    length++;
  }
  function leave(tenant: string, name: string, it: Waiting<T>): void {
    const line = tenants.get(tenant);
    const queue = line?.queues.get(name);
    if (line === undefined || queue?.delete(it) !== true) return;
    length--;
    line.length--;
    if (line.length === 0) tenants.delete(tenant);
    if (queue.size > 0) return;
    line.queues.delete(name);
    names.delete(name);
  }
  /** Serves the tenant's first request that can be. */
  function serveOne(tenant: string, { queues }: OfTenant<T>): boolean {
    for (const [name, queue] of queues) {
      const [first] = queue;
      const outcome = first && outcomeOf(first);
      if (first === undefined || outcome === undefined) continue;
      leave(tenant, name, first);
      // The tenant's other functions have their turn before this one's next.
      if (queues.delete(name)) queues.set(name, queue);
      first.settle(outcome);
      return true;
    }
    return false;
  }

  return {
    wait: ({ tenant, version, queue: name, take, gone }) =>
      new Promise<T>((resolve, reject) => {
        const line = tenants.get(tenant);
        const aheadNow = (): number => tenants.get(tenant)?.queues.get(name)?.size ?? 0;
        const ahead = aheadNow();
        const inVain = (expectedMs(version, ahead + 1) ?? 0) > WAIT_MS_MAX;
        // A tenant has at most as many places as it leaves free: so there is always one for another.
        const isFull = ahead >= WAITING_MAX.together || (line?.length ?? 0) >= WAITING_MAX.all - length;
        if (inVain || isFull) return reject(busy(version, ahead));
        const it: Waiting<T> = {
          take,
          settle(outcome) {
            clearTimeout(timer);
            gone?.removeEventListener('abort', onGone);
            if ('taken' in outcome) resolve(outcome.taken);
            else reject(outcome.failure);
          },
        };
        const giveUp = (failure: () => CfnError): void => {
          leave(tenant, name, it);
          it.settle({ failure: failure() });
        };
        const onGone = (): void => giveUp(() => new CfnError('CFN_ABORTED', 'the caller went away'));
        const timer = setTimeout(() => giveUp(() => busy(version, aheadNow())), WAIT_MS_MAX);
        if (gone?.aborted === true) return onGone();
        gone?.addEventListener('abort', onGone, { once: true });
        enter(tenant, name, it);
      }),
    isWaiting: (queue) => names.has(queue),
    serve() {
      for (let served = true; served && length > 0;) {
        served = false;
        for (const [tenant, line] of Array.from(tenants)) {
          if (!serveOne(tenant, line)) continue;
          served = true;
          if (tenants.delete(tenant)) tenants.set(tenant, line);
        }
      }
    },
    ended(version) {
      // While nobody waits, gaps say how often a function is called, and not how fast it is.
      const pace = paces.get(version);
      if (pace === undefined && length === 0) return;
      const nowMs = monotonicMs();
      if (pace === undefined) {
        if (paces.size >= WAITING_MAX.all) paces.clear();
        paces.set(version, { gapMs: 0, lastMs: nowMs });
        return;
      }
      if (length > 0) pace.gapMs += (nowMs - pace.lastMs - pace.gapMs) * PACE_WEIGHT;
      pace.lastMs = nowMs;
    },
    length: () => length,
  };
}

function outcomeOf<T>({ take }: Waiting<T>): Outcome<T> | undefined {
  try {
    const taken = take();
    return taken && { taken };
  } catch (cause) {
    return { failure: toCfnError(cause) };
  }
}
