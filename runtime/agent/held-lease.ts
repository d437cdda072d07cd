import { CfnError, toCfnError } from '../../proto/index.ts';
import type { Kms, Released } from './key-client.ts';
import type { LeaseWatch } from './lease-watch.ts';

/** How often a lease is asked for while nothing is heard of its KMS, in ms. */
const POLL_MS = 2_000;
/** How often the clock is looked at, in ms. */
const GUARD_MS = 50;
/** Between two attempts to get more invocations, where the first brought none, in ms. */
const MORE_MS = 1_000;

/** Invocations under a lease. */
export interface InvocationCount {
  /** Whether one more may begin. */
  has(): boolean;
  /** Asks the KMS for more. @throws {CfnError} `CFN_ALLOWANCE_WAITING`, `CFN_ALLOWANCE_SPENT` when there is none */
  more(): Promise<void>;
  /** Counts one. @returns call it when that one is over */
  begin(): () => void;
}

/** A lease that a worker holds: renewed in time, watched, and counted. */
export interface HeldLease {
  readonly count: InvocationCount;
  /** Resolves when it is over, with the reason. */
  readonly ended: Promise<CfnError>;
  used(): number;
  end(reason: CfnError): void;
}

interface LeaseDeps {
  readonly watch: LeaseWatch;
  readonly leaseClockMs: () => number;
  /** A new appraisal. @throws {CfnError} a `trust` refusal but `CFN_CHALLENGE_INVALID` ends the lease, nothing else ends it before its time */
  readonly renew: (used: number) => Promise<Released>;
  readonly remainingMs: () => Promise<number>;
  /** The lease now ends at this time. */
  readonly onTerm: (endsAt: number) => void;
}

/** @param first what the KMS said when it released the key */
export function holdLease(kms: Kms, first: Released, deps: LeaseDeps): HeldLease {
  const ended = Promise.withResolvers<CfnError>();
  let over = false;
  let endsAt = -Infinity;
  let renewAt = Infinity;
  let renewing: Promise<void> | undefined;
  /** Whether the KMS said how long the lease has while a renewal was under way: the answer to that may be the older of the two. */
  let overtaken = false;
  let asking = false;

  let used = 0;
  let running = 0;
  let allowed = first.allowed ?? Infinity;
  let spent = false;
  /** What there was to use after the last renewal; more is asked for when half of it is gone. */
  let stock = allowed;
  let moreAt = 0;

  const end = (reason: CfnError): void => {
    if (over) return;
    over = true;
    clearInterval(poll);
    clearInterval(guard);
    followed.stop();
    ended.resolve(reason);
  };
  const endRefused = (cause: unknown): void => {
    const refusal = toCfnError(cause);
    // Strangers who ask for many challenges drive out others': the next attempt takes a new one.
    if (refusal.fault === 'trust' && refusal.code !== 'CFN_CHALLENGE_INVALID') end(refusal);
  };
  const setTerm = (at: number): void => {
    const now = deps.leaseClockMs();
    // Half way; whoever shortens a lease again and again does not put its renewal off.
    renewAt = Math.min(at > endsAt ? Infinity : renewAt, now + (at - now) / 2);
    endsAt = at;
    deps.onTerm(at);
  };
  /** One at a time: whoever wants one while it is under way waits for that. */
  function renew(): Promise<void> {
    if (renewing !== undefined) return renewing;
    overtaken = false;
    renewing = deps
      .renew(used)
      .then((renewed) => {
        if (over) return;
        setTerm(renewed.endsAt);
        if (overtaken) void askNow();
        const before = allowed;
        allowed = renewed.allowed ?? Infinity;
        spent = renewed.spent === true;
        stock = allowed - used;
        moreAt = allowed > before ? 0 : deps.leaseClockMs() + MORE_MS;
        endSpent();
      }, endRefused)
      .finally(() => (renewing = undefined));
    return renewing;
  }
  async function ask(): Promise<void> {
    if (asking || over) return;
    asking = true;
    await askNow();
    asking = false;
  }
  async function askNow(): Promise<void> {
    try {
      shorten(await deps.remainingMs());
    } catch (cause) {
      endRefused(cause);
    }
  }
  function shorten(remainingMs: number): void {
    if (over) return;
    overtaken = true;
    if (remainingMs <= 0) return end(new CfnError('CFN_LEASE_ENDED', 'the lease was revoked'));
    const at = deps.leaseClockMs() + remainingMs;
    if (at < endsAt) setTerm(at);
  }
  /** Nothing to run any more: then the weights need not stay. */
  function endSpent(): void {
    if (spent && used >= allowed && running === 0)
      end(new CfnError('CFN_ALLOWANCE_SPENT', "the grant's invocations are used up"));
  }

  // The lease's own end must not wait for an answer that hangs.
  const guard = setInterval(() => {
    const now = deps.leaseClockMs();
    if (now >= endsAt) end(new CfnError('CFN_LEASE_ENDED', 'the lease has ended'));
    else if (now >= renewAt && renewing === undefined) {
      renewAt = now + Math.min(POLL_MS, Math.max(GUARD_MS, (endsAt - now) / 4)); // where it fails: again
      void renew();
    }
  }, GUARD_MS);
  const poll = setInterval(() => {
    if (!followed.hears()) void ask();
  }, POLL_MS);
  guard.unref();
  poll.unref();
  const followed = deps.watch.follow(kms, first.lease, { shortened: shorten, recheck: () => void ask() });
  setTerm(first.endsAt);

  return {
    ended: ended.promise,
    end,
    used: () => used,
    count: {
      has: () => used < allowed,
      async more() {
        if (renewing !== undefined || deps.leaseClockMs() >= moreAt) await renew();
        if (over) throw await ended.promise;
        if (used < allowed) return;
        if (spent) throw new CfnError('CFN_ALLOWANCE_SPENT', "the grant's invocations are used up");
        throw new CfnError('CFN_ALLOWANCE_WAITING', "this worker has used up its part of the grant's invocations");
      },
      begin() {
        used += 1;
        running += 1;
        const low = Number.isFinite(allowed) && allowed - used <= stock / 2;
        if (low && deps.leaseClockMs() >= moreAt) void renew();
        return () => {
          running -= 1;
          endSpent();
        };
      },
    },
  };
}
