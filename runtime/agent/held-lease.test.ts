import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CfnError, type LeaseEvent } from '../../proto/index.ts';
import { dropReports } from './drop-reports.ts';
import { countInvocation } from './count-invocation.ts';
import { holdLease, type HeldLease } from './held-lease.ts';
import type { Released } from './key-client.ts';
import { leaseWatch } from './lease-watch.ts';

/** The clock of leases is a number here, and does not follow that of timers: a suspended machine is one on which it jumps. */
let clock: number;
let renewals: number[];
let answer: Partial<Released> | Error;
let terms: number[];
let polls: number;
let remaining: number | Error;
let stream: { push(event: Partial<LeaseEvent>): void; fail(error: Error): void };
let opened: number;
/** Renewals are answered when this is. */
let answered: Promise<void>;
const log = (): void => undefined;
const kms = { url: 'http://kms', publicKey: 'k' };
const first: Released = { lease: 'l', policy: 'p', challenge: 'c', endsAt: 60_000 };

beforeEach(() => {
  vi.useFakeTimers();
  [clock, renewals, terms, polls, opened] = [0, [], [], 0, 0];
  [answer, remaining, answered] = [{ endsAt: 120_000 }, 600_000, Promise.resolve()];
});
afterEach(() => vi.useRealTimers());

async function* events(_kms: unknown, signal: AbortSignal): AsyncGenerator<LeaseEvent> {
  opened += 1;
  let waiting = Promise.withResolvers<Partial<LeaseEvent>>();
  signal.addEventListener('abort', () => waiting.reject(new CfnError('CFN_KMS_UNREACHABLE', 'silent')));
  stream = { push: (event) => waiting.resolve(event), fail: (error) => waiting.reject(error) };
  for (;;) {
    const event = await waiting.promise;
    waiting = Promise.withResolvers();
    yield { n: 0, ...event };
  }
}
function hold(change: Partial<Released> = {}): HeldLease {
  return holdLease(
    kms,
    { ...first, ...change },
    {
      watch: leaseWatch({ keys: { leaseEvents: events }, log }),
      leaseClockMs: () => clock,
      renew: async (used) => {
        renewals.push(used);
        const decided = answer;
        await answered;
        if (decided instanceof Error) throw decided;
        return { ...first, ...decided };
      },
      remainingMs: async () => {
        polls += 1;
        const decided = remaining;
        await answered;
        if (decided instanceof Error) throw decided;
        return decided;
      },
      onTerm: (endsAt) => void terms.push(endsAt),
    },
  );
}
async function pass(ms: number): Promise<void> {
  clock += ms;
  await vi.advanceTimersByTimeAsync(ms);
}
/** The reason of its end, if it has ended. */
const endOf = (lease: HeldLease): Promise<CfnError | undefined> =>
  Promise.race([lease.ended, Promise.resolve(undefined)]);

describe('INV-06 a held lease', () => {
  test('is renewed at half its term, and ends by its clock when that fails', async () => {
    const lease = hold();
    await pass(30_100);
    expect(renewals).toEqual([0]);
    expect(terms).toEqual([60_000, 120_000]);
    answer = new CfnError('CFN_KMS_UNREACHABLE', 'gone');
    remaining = answer;
    await pass(89_000);
    expect(await endOf(lease)).toBeUndefined();
    await pass(1_000);
    expect(await endOf(lease)).toMatchObject({ code: 'CFN_LEASE_ENDED' });
  });

  test('that has no limit is not renewed for being used', async () => {
    const lease = hold();
    for (let i = 0; i < 20; i++) {
      lease.count.begin()();
      await pass(1_000);
    }
    expect(renewals).toEqual([]);
  });

  test('ends after a suspend at once: its clock has gone on, whatever timers think', async () => {
    const lease = hold();
    clock += 3_600_000;
    await vi.advanceTimersByTimeAsync(50);
    expect(await endOf(lease)).toMatchObject({ code: 'CFN_LEASE_ENDED' });
    expect(renewals).toEqual([]);
  });

  test('ends at once when its KMS tells so, and is asked for while nothing is heard', async () => {
    const lease = hold();
    await pass(2_100);
    expect(polls).toBe(1); // the stream is not up yet
    stream.push({});
    await pass(0);
    expect(polls).toBe(2); // what was missed before
    for (let i = 0; i < 5; i++) {
      await pass(2_000);
      stream.push({});
    }
    await pass(0);
    expect(polls).toBe(2);
    await pass(3_100); // silence
    expect(polls).toBe(3);
    await pass(8_000);
    expect(opened).toBeGreaterThan(1);
    expect(polls).toBeGreaterThan(5);
    stream.push({ lease: 'l', remainingMs: 0 });
    await pass(0);
    expect(await endOf(lease)).toMatchObject({ code: 'CFN_LEASE_ENDED' });
  });

  test('is shortened as told, and never longer than it was', async () => {
    const lease = hold();
    await pass(0);
    stream.push({ lease: 'l', remainingMs: 5_000 });
    await pass(0);
    expect(terms).toEqual([60_000, 5_000]);
    stream.push({ lease: 'l', remainingMs: 50_000 });
    await pass(0);
    expect(terms.at(-1)).toBe(5_000);
    answer = new CfnError('CFN_KMS_UNREACHABLE', 'gone');
    await pass(5_050);
    expect(await endOf(lease)).toMatchObject({ code: 'CFN_LEASE_ENDED' });
  });

  test.each([5_000, 40_000])('is %d ms long as told, though the answer to a renewal comes after', async (told) => {
    hold();
    await pass(0);
    stream.push({});
    const slow = Promise.withResolvers<void>();
    answered = slow.promise;
    clock += 30_000;
    await pass(100); // the KMS has decided; its answer is on its way
    polls = 0;
    stream.push({ lease: 'l', remainingMs: told });
    await pass(0);
    remaining = told;
    slow.resolve();
    await pass(0);
    expect(polls).toBe(1);
    expect(terms.slice(-2)).toEqual([120_000, 30_100 + told]);
  });

  test('is not asked for after a renewal that nothing overtook', async () => {
    hold();
    await pass(0);
    stream.push({});
    await pass(0);
    polls = 0;
    clock += 30_000;
    await pass(100);
    expect([renewals.length, polls]).toEqual([1, 0]);
  });

  test('that is over gets no term any more from an answer that comes late', async () => {
    const slow = Promise.withResolvers<void>();
    answered = slow.promise;
    remaining = 5_000;
    const lease = hold();
    await pass(2_100); // it is asked for
    lease.end(new CfnError('CFN_LEASE_ENDED', 'given back'));
    slow.resolve();
    await pass(0);
    expect(polls).toBe(1);
    expect(terms).toEqual([60_000]);
  });

  test('is renewed in time, however often it is shortened a little', async () => {
    hold();
    for (let i = 0; i < 16; i++) {
      remaining = 60_000 - clock - i - 1;
      await pass(2_000);
    }
    expect(renewals).toHaveLength(1);
  });

  test('ends when a renewal is refused, or answered by another KMS', async () => {
    for (const code of ['CFN_GRANT_MISSING', 'CFN_KMS_MISMATCH'] as const) {
      clock = 0;
      answer = new CfnError(code, 'refused');
      const lease = hold();
      await pass(30_100);
      expect(await endOf(lease)).toMatchObject({ code });
    }
  });
});

describe("a renewal whose challenge was driven out by others'", () => {
  const lost = new CfnError('CFN_CHALLENGE_INVALID', 'unknown');
  const passSeconds = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) await pass(1_000);
  };

  test('is tried again, and extends the lease', async () => {
    const lease = hold();
    const good = answer;
    answer = lost;
    await passSeconds(40);
    expect(renewals.length).toBeGreaterThan(2);
    answer = good;
    await passSeconds(3);
    expect(terms.at(-1)).toBe(120_000);
    expect(await endOf(lease)).toBeUndefined();
  });

  test("does not put off the lease's end", async () => {
    const lease = hold();
    answer = lost;
    await passSeconds(59);
    expect(await endOf(lease)).toBeUndefined();
    await passSeconds(2);
    expect(await endOf(lease)).toMatchObject({ code: 'CFN_LEASE_ENDED' });
  });
});

describe('INV-24 counted invocations', () => {
  test('under all leases of a function or under none', async () => {
    const [many, none] = [hold({ allowed: 5 }), hold({ lease: 'm', allowed: 0 })];
    answer = { endsAt: 120_000, allowed: 0, spent: true };
    await expect(countInvocation([many.count, none.count])).rejects.toMatchObject({ code: 'CFN_ALLOWANCE_SPENT' });
    expect(many.used()).toBe(0);
  });

  test('more is asked for when half is gone; who finds none waits for the answer', async () => {
    const lease = hold({ allowed: 4 });
    const { count } = lease;
    answer = { endsAt: 120_000, allowed: 6 };
    count.begin();
    expect(renewals).toEqual([]);
    count.begin();
    expect(renewals).toEqual([2]);
    for (let i = 0; i < 4; i++) (await countInvocation([count]))();
    expect(lease.used()).toBe(6);
    answer = { endsAt: 120_000, allowed: 6 };
    await pass(0);
    await expect(countInvocation([count])).rejects.toMatchObject({ code: 'CFN_ALLOWANCE_WAITING' });
    const asked = renewals.length;
    await expect(countInvocation([count])).rejects.toMatchObject({ code: 'CFN_ALLOWANCE_WAITING' });
    expect(renewals).toHaveLength(asked); // not at every call
    answer = { endsAt: 120_000, allowed: 7 };
    await pass(1_100);
    await countInvocation([count]);
    expect(lease.used()).toBe(7);
  });

  test('when all is spent, the lease ends after the last one that runs', async () => {
    const lease = hold({ allowed: 1 });
    answer = { endsAt: 120_000, allowed: 1, spent: true };
    const over = await countInvocation([lease.count]);
    await pass(10);
    expect(await endOf(lease)).toBeUndefined();
    over();
    expect(await endOf(lease)).toMatchObject({ code: 'CFN_ALLOWANCE_SPENT' });
    await expect(lease.count.more()).rejects.toMatchObject({ code: 'CFN_ALLOWANCE_SPENT' });
  });
});

describe('a statement that a key was dropped', () => {
  test('is kept until the KMS takes it, the same one', async () => {
    const sent: string[] = [];
    let made = 0;
    const refusals = [new CfnError('CFN_KMS_UNREACHABLE', 'gone'), new CfnError('CFN_BUSY', 'busy')];
    const reports = dropReports({
      keys: {
        stateDropped: async () => `statement ${++made}`,
        reportDropped: async (_kms, _lease, statement) => {
          sent.push(statement);
          const refusal = refusals.shift();
          if (refusal !== undefined) throw refusal;
        },
      },
      leaseClockMs: () => clock,
      log,
    });
    reports.report(kms, 'l', 'CFN_LEASE_ENDED', 3);
    await pass(5_000);
    expect(sent).toEqual(Array(3).fill('statement 1'));
    await reports.settled(0);
  });

  test('is given up after an hour, and when the KMS does not want it; both are said', async () => {
    const said: string[] = [];
    let refusal = new CfnError('CFN_KMS_UNREACHABLE', 'gone');
    const reports = dropReports({
      keys: { stateDropped: async () => 's', reportDropped: () => Promise.reject(refusal) },
      leaseClockMs: () => clock,
      log: (event, { code }) => void said.push(`${event} ${code}`),
    });
    reports.report(kms, 'l', 'CFN_LEASE_ENDED', 3);
    for (let minute = 0; minute < 62; minute++) await pass(60_000);
    expect(said).toEqual(['lease.drop-unreported CFN_KMS_UNREACHABLE']);
    refusal = new CfnError('CFN_RECEIPT_INVALID', 'no');
    reports.report(kms, 'm', 'CFN_LEASE_ENDED', 3);
    await pass(10);
    expect(said).toEqual(['lease.drop-unreported CFN_KMS_UNREACHABLE', 'lease.drop-unreported CFN_RECEIPT_INVALID']);
  });
});
