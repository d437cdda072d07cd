import { CfnError } from '../../proto/index.ts';
import { QUOTA } from '../limits.ts';
import type { Used } from '../store/index.ts';
import type { QuotaBook, Settlement } from './book.ts';
import { burstOf, periodOf, type Period, type PeriodName, type TenantLimits } from './tenant-limits.ts';

/** Why a request is not let through. */
export interface Refusal {
  readonly error: CfnError;
  /** `RateLimit` fields of the answer (draft-ietf-httpapi-ratelimit-headers), where the rate was it. */
  readonly fields: Readonly<Record<string, string>>;
}

export interface ShareDependencies {
  readonly book: QuotaBook;
  /** This run of this gateway. */
  readonly gateway: string;
  readonly now: () => Date;
  readonly monotonicMs: () => number;
  readonly onAway: (cause: unknown) => void;
}

interface Count {
  readonly period: Period;
  own: Used;
  /** Never goes down: a book that lost what others told has not made it undone. */
  others: Used;
}

const NOTHING: Used = { requests: 0, engineMs: 0, bytes: 0 };

/**
 * What this gateway holds of a tenant's limits: tokens and slots that the book gave it, and what it counted itself. Requests are let
 * through from here; the book is asked for more beside them, or before one for which nothing is left. While the book does not
 * answer, this gateway keeps to its part of the limits: an equal one among the gateways last heard of.
 */
export class TenantShare {
  limits: TenantLimits;
  readonly #tenant: string;
  readonly #deps: ShareDependencies;
  #tokens = 0;
  #tokensUntilMs = 0;
  #emptyUntilMs = 0;
  #slots = 0;
  #fullUntilMs = 0;
  #inUse = 0;
  #waiting = 0;
  /** Tokens are running out. */
  #hungry = false;
  /** Something was counted that the book does not know. */
  #untold = false;
  #gateways = 1;
  #settledAtMs: number | undefined;
  /** While the book is away: tokens of our part. */
  #alone: { level: number; atMs: number } | undefined;
  #settling: Promise<void> | undefined;
  #givingBack: NodeJS.Timeout | undefined;
  readonly #counts: Record<PeriodName, Count>;
  /** Of periods just left: a clock that is set back finds them as they were. */
  readonly #left = new Map<PeriodName, Count>();

  /** @param counted what is known to have been used in these periods, told by this gateway from now on */
  constructor(
    tenant: string,
    limits: TenantLimits,
    counted: Readonly<Record<PeriodName, Used>>,
    deps: ShareDependencies,
  ) {
    this.#tenant = tenant;
    this.limits = limits;
    this.#deps = deps;
    const now = deps.now();
    const count = (name: PeriodName): Count => ({ period: periodOf(name, now), own: counted[name], others: NOTHING });
    this.#counts = { day: count('day'), month: count('month') };
  }

  /** Lets one request through, which then {@link release}s; or says why not. */
  async admit(): Promise<Refusal | undefined> {
    // A settlement under way may have begun before we asked; the next has asked for us, too.
    for (let attempt = 0; attempt < 3; attempt++) {
      const outcome = this.#take();
      if (outcome !== 'ask') return outcome;
      this.#waiting++;
      try {
        await this.settle();
      } finally {
        this.#waiting--;
      }
    }
    const last = this.#take();
    if (last !== 'ask') return last;
    return this.limits.requestsPerSecond === undefined ? this.#tooMany() : this.#tooFast(1_000);
  }

  release(): void {
    this.#inUse--;
    if (this.limits.concurrency === undefined || this.#slots <= this.#inUse + this.#spareSlots()) return;
    // The next request of this gateway often follows at once; only then others get the slot.
    this.#givingBack ??= setTimeout(() => void this.settle(), QUOTA.giveBackMs).unref();
  }

  add(used: Used): void {
    this.#untold = true;
    for (const count of this.#current()) count.own = plus(count.own, used);
  }

  /** The book is to hear of it: of what was counted, again where it may have lost that, or that this gateway lives and holds slots. */
  isStale(): boolean {
    if (this.#untold || this.#inUse > 0 || this.#slots > 0 || this.#alone !== undefined) return true;
    const sinceMs = this.#deps.monotonicMs() - (this.#settledAtMs ?? Number.NEGATIVE_INFINITY);
    return sinceMs >= QUOTA.tellAgainMs && this.#current().some(hasCounted);
  }

  /** By all gateways, as far as known here. */
  used(): Record<PeriodName, Used> {
    const [day, month] = this.#current().map(({ own, others }) => plus(own, others));
    return { day: day ?? NOTHING, month: month ?? NOTHING };
  }

  /** Brings this gateway and the book to the same state; resolves also when that did not work, after {@link QUOTA}`.settleMs`. */
  settle(): Promise<void> {
    return (this.#settling ??= this.#settleOnce().finally(() => (this.#settling = undefined)));
  }

  /** @returns `undefined` when it took what one request needs */
  #take(): Refusal | 'ask' | undefined {
    const spent = this.#spent();
    if (spent !== undefined) return spent;
    const nowMs = this.#deps.monotonicMs();
    const token = this.#token(nowMs);
    if (token !== true) return token;
    const slot = this.#slot(nowMs);
    if (slot !== true) return slot;
    if (this.limits.requestsPerSecond !== undefined) {
      if (this.#alone === undefined) this.#tokens--;
      else this.#alone.level--;
    }
    this.#inUse++;
    this.add({ requests: 1, engineMs: 0, bytes: 0 });
    this.#askAhead(nowMs);
    return undefined;
  }

  #spent(): Refusal | undefined {
    for (const { period, own, others } of this.#current()) {
      const limits = this.limits[period.name];
      if (limits === undefined) continue;
      for (const what of ['requests', 'engineMs', 'bytes'] as const) {
        const max = limits[what];
        if (max === undefined || own[what] + others[what] < max) continue;
        const retryAfterSeconds = Math.max(1, Math.ceil((period.endsAt.getTime() - this.#deps.now().getTime()) / 1000));
        const message = `the tenant has used its ${what} of this ${period.name}, ${max}`;
        return { error: new CfnError('CFN_QUOTA_EXCEEDED', message, { retryAfterSeconds }), fields: {} };
      }
    }
    return undefined;
  }

  #token(nowMs: number): true | 'ask' | Refusal {
    const { requestsPerSecond } = this.limits;
    if (requestsPerSecond === undefined) return true;
    if (this.#alone !== undefined) {
      const perSecond = requestsPerSecond / this.#gateways;
      const burst = this.#partOfBurst();
      const { level, atMs } = this.#alone;
      this.#alone = { level: Math.min(burst, level + ((nowMs - atMs) * perSecond) / 1000), atMs: nowMs };
      return this.#alone.level >= 1 || this.#tooFast(((1 - this.#alone.level) * 1000) / perSecond);
    }
    if (nowMs >= this.#tokensUntilMs) this.#tokens = 0;
    if (this.#tokens >= 1) return true;
    return nowMs < this.#emptyUntilMs ? this.#tooFast(this.#emptyUntilMs - nowMs) : 'ask';
  }

  #slot(nowMs: number): true | 'ask' | Refusal {
    const { concurrency } = this.limits;
    if (concurrency === undefined) return true;
    if (this.#alone !== undefined) return this.#inUse < Math.ceil(concurrency / this.#gateways) || this.#tooMany();
    if (this.#inUse < this.#slots) return true;
    return nowMs < this.#fullUntilMs ? this.#tooMany() : 'ask';
  }

  #tooMany(): Refusal {
    const message = `the tenant has ${this.limits.concurrency ?? 0} requests under way, the most it may have`;
    return { error: new CfnError('CFN_RATE_LIMITED', message, { retryAfterSeconds: 1 }), fields: {} };
  }

  #tooFast(retryMs: number): Refusal {
    const { requestsPerSecond = 0 } = this.limits;
    const retryAfterSeconds = Math.max(1, Math.ceil(retryMs / 1000));
    const message = `the tenant may make ${requestsPerSecond} requests a second`;
    const windowSeconds = Math.max(1, Math.ceil(1 / requestsPerSecond));
    return {
      error: new CfnError('CFN_RATE_LIMITED', message, { retryAfterSeconds }),
      fields: {
        'ratelimit-policy': `"requests";q=${Math.floor(requestsPerSecond * windowSeconds)};w=${windowSeconds}`,
        ratelimit: `"requests";r=0;t=${retryAfterSeconds}`,
      },
    };
  }

  /** Asks beside the requests, before nothing is left. */
  #askAhead(nowMs: number): void {
    if (this.#alone !== undefined) return;
    const lease = this.#lease();
    const fewTokens = lease > 1 && this.#tokens < lease / 2 && nowMs >= this.#emptyUntilMs;
    const fewSlots = this.#spareSlots() > 0 && this.#inUse >= this.#slots && nowMs >= this.#fullUntilMs;
    this.#hungry = fewTokens;
    if (fewTokens || fewSlots) void this.settle();
  }

  /** Tokens taken at a time: what one gateway may hold at most without having used it. */
  #lease(): number {
    const { requestsPerSecond } = this.limits;
    if (requestsPerSecond === undefined) return 0;
    return Math.min(burstOf(this.limits), Math.max(1, Math.ceil((requestsPerSecond * QUOTA.leaseMs) / 1000)));
  }

  /** Slots held for requests to come; none where there are few, as others would miss them. */
  #spareSlots(): number {
    return Math.min(64, Math.floor((this.limits.concurrency ?? 0) / 32));
  }

  async #settleOnce(): Promise<void> {
    clearTimeout(this.#givingBack);
    this.#givingBack = undefined;
    const { book, gateway, monotonicMs } = this.#deps;
    const { requestsPerSecond: perSecond, concurrency } = this.limits;
    const counts = this.#current();
    const told = counts.map(({ own }) => own);
    const inUse = this.#inUse;
    const asks = this.#waiting > 0 || this.#hungry;
    const wanted = asks ? Math.max(0, Math.max(this.#waiting, this.#lease()) - this.#tokens) : 0;
    const wantedSlots = inUse + this.#waiting + (asks || inUse > 0 ? this.#spareSlots() : 0);
    // What is given back may be another's before we hear of it.
    this.#slots = Math.min(this.#slots, wantedSlots);
    this.#hungry = false;
    this.#untold = false;
    try {
      const settlement = await within(
        QUOTA.settleMs,
        book.settle(this.#tenant, {
          gateway,
          rate: perSecond === undefined ? undefined : { perSecond, burst: burstOf(this.limits), wanted },
          slots: concurrency === undefined ? undefined : { max: concurrency, inUse, wanted: wantedSlots },
          periods: counts.map(({ period, own }) => ({
            id: period.id,
            keepSeconds: Math.ceil((period.endsAt.getTime() - period.startsAt.getTime()) / 1000) + 86_400,
            used: own,
          })),
        }),
      );
      this.#apply(settlement, wanted, wantedSlots, monotonicMs());
      for (const [i, count] of counts.entries())
        count.others = most(count.others, minus(settlement.used[i] ?? NOTHING, told[i] ?? NOTHING));
    } catch (cause) {
      this.#untold = true;
      this.#goAlone(monotonicMs());
      this.#deps.onAway(cause);
    }
  }

  #apply({ tokens, retryMs, slots, gateways }: Settlement, wanted: number, wantedSlots: number, nowMs: number): void {
    this.#settledAtMs = nowMs;
    this.#alone = undefined;
    this.#gateways = Math.max(1, gateways);
    if (wanted > 0) {
      this.#tokens = (nowMs < this.#tokensUntilMs ? this.#tokens : 0) + tokens;
      this.#tokensUntilMs = nowMs + QUOTA.tokensMs;
      this.#emptyUntilMs = tokens < wanted ? nowMs + retryMs : 0;
    }
    this.#slots = slots;
    // Held against what was asked: who came meanwhile has not been refused by the book.
    const full = this.limits.concurrency !== undefined && slots < wantedSlots;
    this.#fullUntilMs = full ? nowMs + QUOTA.fullMs : 0;
  }

  #goAlone(nowMs: number): void {
    this.#alone ??= { level: this.#levelAlone(nowMs), atMs: nowMs };
    this.#tokens = 0;
  }

  #levelAlone(nowMs: number): number {
    // Before the book was heard of, all gateways may be as new as this one.
    if (this.#settledAtMs === undefined) return this.#partOfBurst();
    // Then what it still holds, and its part of the time since; not more than it may hold anyway.
    const held = nowMs < this.#tokensUntilMs ? this.#tokens : 0;
    const part = ((nowMs - this.#settledAtMs) * (this.limits.requestsPerSecond ?? 0)) / this.#gateways / 1000;
    return Math.max(held, Math.min(held + part, this.#lease()));
  }

  #partOfBurst(): number {
    return Math.max(1, burstOf(this.limits) / this.#gateways);
  }

  /** The counts of this day and month: a new one begins at nothing. */
  #current(): readonly Count[] {
    const now = this.#deps.now();
    for (const name of ['day', 'month'] as const) {
      const count = this.#counts[name];
      if (now >= count.period.startsAt && now < count.period.endsAt) continue;
      const period = periodOf(name, now);
      const before = this.#left.get(name);
      this.#left.set(name, count);
      this.#counts[name] = before?.period.id === period.id ? before : { period, own: NOTHING, others: NOTHING };
    }
    return [this.#counts.day, this.#counts.month];
  }
}

const hasCounted = ({ own }: Count): boolean => own.requests > 0 || own.engineMs > 0 || own.bytes > 0;
const plus = (a: Used, b: Used): Used => ({
  requests: a.requests + b.requests,
  engineMs: a.engineMs + b.engineMs,
  bytes: a.bytes + b.bytes,
});
const minus = (a: Used, b: Used): Used => ({
  requests: Math.max(0, a.requests - b.requests),
  engineMs: Math.max(0, a.engineMs - b.engineMs),
  bytes: Math.max(0, a.bytes - b.bytes),
});
const most = (a: Used, b: Used): Used => ({
  requests: Math.max(a.requests, b.requests),
  engineMs: Math.max(a.engineMs, b.engineMs),
  bytes: Math.max(a.bytes, b.bytes),
});

function within<T>(ms: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new CfnError('CFN_DEADLINE', `no settlement in ${ms} ms`)), ms);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
