import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { LIMITS_CACHE_MS, QUOTA } from '../limits.ts';
import type { Used } from '../store/index.ts';
import { SLOTS_MS, type QuotaBook } from './book.ts';
import { memoryBook } from './memory-book.ts';
import { quotas, type Quotas } from './quotas.ts';
import type { TenantLimits } from './tenant-limits.ts';

// INV-36, with a book in memory; `limits.test.ts` has it with Redis and whole gateways.

/** Time that stands still unless a test moves it. */
let clockMs = 0;
/** It moves by so much each time it is read. */
let stepMs = 0;
let now = new Date();
let shared: QuotaBook;
let emptyBook: () => void;
/** Answers of the book wait for it. */
let slow: Promise<void> | undefined;
let settlements = 0;
let away: 'refuses' | 'hangs' | undefined;
const opened: Quotas[] = [];
const stored = new Map<string, string>();

beforeEach(() => {
  clockMs = 0;
  now = new Date('2026-11-23T12:00:00Z');
  settlements = 0;
  away = undefined;
  stored.clear();
  stepMs = 0;
  slow = undefined;
  let book = memoryBook(() => clockMs);
  emptyBook = () => (book = memoryBook(() => clockMs));
  shared = {
    async settle(tenant, account) {
      settlements++;
      if (away === 'refuses') throw new Error('connection lost');
      if (away === 'hangs') return new Promise(() => undefined);
      const [settlement] = await Promise.all([book.settle(tenant, account), slow]);
      return settlement;
    },
  };
});
afterEach(() => {
  for (const one of opened.splice(0)) one.stop();
});

function gateway(usedSince?: (tenant: string, since: string) => Promise<Used>): Quotas {
  const one = quotas({
    store: {
      limits: async (tenant) => {
        if (stored.get(tenant) === 'fails') throw new Error('the store is away');
        return stored.get(tenant);
      },
      setLimits: async (tenant, text) => void stored.set(tenant, text),
    },
    book: shared,
    ...(usedSince === undefined ? {} : { usedSince }),
    now: () => now,
    monotonicMs: () => (clockMs += stepMs),
    randomBytes: (length) => new Uint8Array(randomBytes(length)),
    log: () => undefined,
  });
  opened.push(one);
  return one;
}
const limit = (limits: TenantLimits): void => void stored.set('acme', JSON.stringify(limits));

/** So many requests, one after the other and over at once; gives how many went through, and the last refusal. */
async function burst(
  at: Quotas,
  count: number,
): Promise<{ through: number; code: string | undefined; retry: number | undefined }> {
  let through = 0;
  let last: { code: string; retryAfterSeconds: number | undefined } | undefined;
  for (let i = 0; i < count; i++) {
    const admitted = await at.admit('acme');
    if (admitted.refusal === undefined) {
      through++;
      admitted.release();
    } else last = admitted.refusal.error;
  }
  return { through, code: last?.code, retry: last?.retryAfterSeconds };
}

test('a tenant without limits has none, and the book is not asked', async () => {
  expect(await burst(gateway(), 1_000)).toMatchObject({ through: 1_000 });
  expect(settlements).toBe(0);
});

describe('requests a second', () => {
  test('are a burst and then the rate, over two gateways', async () => {
    limit({ requestsPerSecond: 50, burst: 20 });
    const [a, b] = [gateway(), gateway()];
    const given = [await burst(a, 15), await burst(b, 15), await burst(a, 15)];
    expect(given.reduce((sum, { through }) => sum + through, 0)).toBe(20);
    expect(given[2]).toMatchObject({ through: expect.any(Number) as number, code: 'CFN_RATE_LIMITED', retry: 1 });
    let through = 0;
    for (let i = 0; i < 100; i++) {
      clockMs += 10;
      through += (await burst(a, 2)).through + (await burst(b, 2)).through;
    }
    // One second's worth, less what a gateway may still hold.
    expect(through).toBeLessThanOrEqual(50);
    expect(through).toBeGreaterThanOrEqual(40);
  });

  test('are taken from the book by the lease, not one by one, and not asked for while there are none', async () => {
    limit({ requestsPerSecond: 1_000 });
    const one = gateway();
    expect((await burst(one, 1_000)).through).toBe(1_000);
    expect(settlements).toBeLessThan(60);
    const before = settlements;
    expect(await burst(one, 1_000)).toMatchObject({ through: 0, code: 'CFN_RATE_LIMITED' });
    expect(settlements - before).toBeLessThan(5);
  });

  test('of many at once are let through or refused, none is lost', async () => {
    limit({ requestsPerSecond: 30 });
    const one = gateway();
    const all = await Promise.all(Array.from({ length: 100 }, () => one.admit('acme')));
    expect(all.filter(({ refusal }) => refusal === undefined).length).toBe(30);
  });

  test('that were taken and not used lapse', async () => {
    limit({ requestsPerSecond: 100 });
    const [a, b] = [gateway(), gateway()];
    await burst(a, 1);
    clockMs += QUOTA.tokensMs;
    const through = (await burst(a, 500)).through + (await burst(b, 500)).through;
    expect(through).toBeLessThanOrEqual(100);
  });

  test('say in the answer what the limit is', async () => {
    limit({ requestsPerSecond: 0.1 });
    const one = gateway();
    await burst(one, 1);
    const { refusal } = await one.admit('acme');
    expect(refusal?.error).toMatchObject({ code: 'CFN_RATE_LIMITED', retryAfterSeconds: 10 });
    expect(refusal?.fields).toEqual({ 'ratelimit-policy': '"requests";q=1;w=10', ratelimit: '"requests";r=0;t=10' });
  });
});

describe('requests under way', () => {
  test('are never more than may be, over two gateways; a slot comes free at once', async () => {
    limit({ concurrency: 3 });
    const [a, b] = [gateway(), gateway()];
    const first = await a.admit('acme');
    await a.admit('acme');
    await b.admit('acme');
    expect((await b.admit('acme')).refusal?.error).toMatchObject({ code: 'CFN_RATE_LIMITED' });
    expect((await a.admit('acme')).refusal?.error).toMatchObject({ code: 'CFN_RATE_LIMITED' });
    if (first.refusal === undefined) {
      first.release();
      first.release(); // counts once
    }
    expect((await a.admit('acme')).refusal).toBeUndefined();
    expect((await a.admit('acme')).refusal).toBeDefined();
  });

  test('that come at once all get the slots that are free', async () => {
    limit({ concurrency: 8 });
    const one = gateway();
    const all = await Promise.all(Array.from({ length: 10 }, () => one.admit('acme')));
    expect(all.filter(({ refusal }) => refusal === undefined).length).toBe(8);
  });

  test('give their slot to another gateway soon', async () => {
    limit({ concurrency: 1 });
    const [a, b] = [gateway(), gateway()];
    const held = await a.admit('acme');
    expect((await b.admit('acme')).refusal).toBeDefined();
    if (held.refusal === undefined) held.release();
    clockMs += QUOTA.fullMs;
    await sleep(QUOTA.giveBackMs * 3);
    expect((await b.admit('acme')).refusal).toBeUndefined();
  });

  test('of a gateway that was killed come back', async () => {
    limit({ concurrency: 2 });
    const [killed, other] = [gateway(), gateway()];
    await killed.admit('acme');
    await killed.admit('acme');
    killed.stop();
    expect((await other.admit('acme')).refusal).toBeDefined();
    clockMs += SLOTS_MS;
    expect((await other.admit('acme')).refusal).toBeUndefined();
  });

  test('are no more where a slot that is given back goes to another gateway before this one hears of it', async () => {
    limit({ concurrency: 3 });
    const [a, b] = [gateway(), gateway()];
    const held = await Promise.all([a.admit('acme'), a.admit('acme'), a.admit('acme')]);
    for (const one of held) if (one.refusal === undefined) one.release();
    const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
    slow = answered;
    const telling = a.standing('acme');
    await sleep(1); // the book has it; its answer is on the way
    slow = undefined;
    const late = [a.admit('acme'), a.admit('acme')];
    const others = await Promise.all([b.admit('acme'), b.admit('acme'), b.admit('acme')]);
    answer();
    await telling;
    const through = [...others, ...(await Promise.all(late))].filter(({ refusal }) => refusal === undefined);
    expect(through.length).toBe(3);
  });

  test('are refused as too many, not as too fast, also where each settlement takes longer than its word counts', async () => {
    limit({ concurrency: 1 });
    const [a, b] = [gateway(), gateway()];
    await a.admit('acme');
    stepMs = QUOTA.fullMs;
    const { refusal } = await b.admit('acme');
    expect(refusal?.error.message).toBe('the tenant has 1 requests under way, the most it may have');
    expect(refusal?.fields).toEqual({});
  });

  test('that last keep their slot', async () => {
    limit({ concurrency: 1 });
    const [a, b] = [gateway(), gateway()];
    await a.admit('acme');
    for (let i = 0; i < 3; i++) {
      await sleep(QUOTA.tickMs * 1.2); // it says that it lives
      clockMs += SLOTS_MS / 2;
    }
    expect((await b.admit('acme')).refusal).toBeDefined();
  });
});

describe('quotas of a day and a month', () => {
  test('count requests at once, engine ms and bytes by receipt, over gateways', async () => {
    limit({ day: { requests: 5, engineMs: 100 }, month: { bytes: 1_000 } });
    const [a, b] = [gateway(), gateway()];
    expect((await burst(a, 3)).through).toBe(3);
    await a.standing('acme');
    expect((await b.standing('acme')).used).toMatchObject({ day: { requests: 3 }, month: { requests: 3 } });
    expect(await burst(b, 5)).toEqual({ through: 2, code: 'CFN_QUOTA_EXCEEDED', retry: 12 * 3600 });
    now = new Date('2026-11-24T00:00:00Z');
    expect((await burst(a, 1)).through).toBe(1);
    a.add('acme', { engineMs: 100, bytes: 1 });
    expect(await burst(a, 1)).toMatchObject({ through: 0, code: 'CFN_QUOTA_EXCEEDED' });
    now = new Date('2026-11-25T00:00:00Z');
    a.add('acme', { engineMs: 0, bytes: 999 });
    expect(await burst(a, 1)).toMatchObject({ through: 0, retry: 6 * 86_400 });
    await a.standing('acme');
    await b.standing('acme');
    expect(await burst(b, 1)).toMatchObject({ through: 0, code: 'CFN_QUOTA_EXCEEDED' });
    now = new Date('2026-12-01T00:00:00Z');
    expect((await burst(b, 1)).through).toBe(1);
  });

  test('never count less than before: a book that was emptied hears it again, also from a gateway with nothing to do', async () => {
    limit({ day: { requests: 10 } });
    const [a, b] = [gateway(), gateway()];
    await burst(a, 3);
    await burst(b, 4);
    await b.standing('acme');
    const counted = async (one: Quotas): Promise<number | undefined> => (await one.standing('acme')).used?.day.requests;
    expect(await counted(a)).toBe(7);
    emptyBook();
    expect(await counted(a)).toBe(7);
    const fresh = gateway();
    clockMs += QUOTA.tellAgainMs;
    await expect.poll(() => counted(fresh), { timeout: 10_000 }).toBe(7);
  });

  test('are as they were for a clock that was set ahead and back', async () => {
    limit({ day: { requests: 3 }, month: { requests: 3 } });
    const one = gateway();
    await burst(one, 3);
    now = new Date('2026-12-24T12:00:00Z');
    expect((await burst(one, 1)).through).toBe(1);
    now = new Date('2026-11-23T12:00:01Z');
    expect(await burst(one, 1)).toMatchObject({ through: 0, code: 'CFN_QUOTA_EXCEEDED' });
    now = new Date('2026-12-24T12:00:01Z');
    expect((await burst(one, 5)).through).toBe(2);
  });

  test('do not begin a period with what a settlement says of the one before', async () => {
    limit({ day: { requests: 3 } });
    const [a, b] = [gateway(), gateway()];
    await burst(a, 3);
    await a.standing('acme');
    const { promise: answered, resolve: answer } = Promise.withResolvers<void>();
    slow = answered;
    const telling = b.standing('acme');
    await sleep(1);
    now = new Date('2026-11-24T00:00:00Z');
    b.add('acme', { engineMs: 1, bytes: 1 });
    slow = undefined;
    answer();
    expect((await telling).used?.day.requests).toBe(0);
    expect((await burst(b, 1)).through).toBe(1);
  });

  test('begin with what receipts say, where the book began anew', async () => {
    limit({ day: { requests: 5 } });
    const asked: string[] = [];
    const one = gateway(async (_, since) => {
      asked.push(since);
      return { requests: 4, engineMs: 0, bytes: 0 };
    });
    expect(await burst(one, 5)).toMatchObject({ through: 1 });
    expect(asked).toEqual(['2026-11-23T00:00:00.000Z', '2026-11-01T00:00:00.000Z']);
  });

  test('of nothing let nothing through', async () => {
    limit({ month: { requests: 0 } });
    expect(await burst(gateway(), 2)).toMatchObject({ through: 0, code: 'CFN_QUOTA_EXCEEDED' });
  });
});

describe.each(['refuses', 'hangs'] as const)('while the book %s', (how) => {
  test('each gateway keeps to its part of the rate and of the slots, and none waits long', async () => {
    limit({ requestsPerSecond: 10, concurrency: 4 });
    const [a, b] = [gateway(), gateway()];
    await burst(a, 1);
    await burst(b, 1);
    await a.standing('acme');
    away = how;
    clockMs += 2_000; // what they held has lapsed
    const startedMs = performance.now();
    const held = [await a.admit('acme'), await b.admit('acme')];
    let through = 0;
    for (let i = 0; i < 100; i++) {
      clockMs += 100;
      for (const one of [a, b]) through += (await burst(one, 3)).through;
    }
    expect(performance.now() - startedMs).toBeLessThan(5_000);
    // Ten seconds of ten: two parts of five, and no more than one that each had begun.
    expect(through).toBeGreaterThan(80);
    expect(through).toBeLessThanOrEqual(102);
    for (const one of held) if (one.refusal === undefined) one.release();
    expect(await burst(a, 3)).toMatchObject({ code: 'CFN_RATE_LIMITED' });
  });

  test('a tenant that comes after a pause is let through, by one lease and then by the rate', async () => {
    limit({ requestsPerSecond: 100 });
    const [a, b] = [gateway(), gateway()];
    await burst(a, 1);
    await burst(b, 1);
    await a.standing('acme');
    clockMs += 60_000;
    away = how;
    expect((await burst(a, 50)).through).toBe(10);
    expect((await burst(b, 50)).through).toBeLessThanOrEqual(10);
    clockMs += 1_000;
    expect((await burst(a, 100)).through).toBe(50);
  });

  test('slots are a part, too', async () => {
    limit({ concurrency: 4 });
    const [a, b] = [gateway(), gateway()];
    await burst(a, 1);
    await burst(b, 1);
    await a.standing('acme');
    away = how;
    const through = async (one: Quotas): Promise<number> =>
      (await Promise.all(Array.from({ length: 6 }, () => one.admit('acme')))).filter((it) => it.refusal === undefined)
        .length;
    expect(await through(a)).toBe(2);
    expect(await through(b)).toBeLessThanOrEqual(3); // it may not have heard of the other yet
  });

  test('a gateway that never heard of it keeps to the limits by itself, and goes back to it', async () => {
    limit({ requestsPerSecond: 5 });
    away = how;
    const one = gateway();
    expect(await burst(one, 20)).toMatchObject({ through: 5, code: 'CFN_RATE_LIMITED' });
    away = undefined;
    await expect.poll(async () => ((clockMs += 100), (await burst(one, 1)).through), { timeout: 10_000 }).toBe(1);
  });
});

describe('limits', () => {
  test('that are set count at once here, and soon at others', async () => {
    limit({ day: { requests: 1 } });
    const [a, b] = [gateway(), gateway()];
    await burst(a, 2);
    await burst(b, 2);
    await a.set('acme', { day: { requests: 1_000 } });
    expect((await burst(a, 2)).through).toBe(2);
    expect((await burst(b, 1)).through).toBe(0);
    clockMs += LIMITS_CACHE_MS;
    await expect.poll(async () => (await burst(b, 1)).through).toBe(1);
    expect((await a.standing('acme')).limits).toEqual({ day: { requests: 1_000 } });
  });

  test('that cannot be read are as they were; never known, nothing goes through', async () => {
    limit({ day: { requests: 2 } });
    const one = gateway();
    expect((await burst(one, 1)).through).toBe(1);
    stored.set('acme', 'fails');
    clockMs += LIMITS_CACHE_MS;
    expect(await burst(one, 3)).toMatchObject({ through: 1, code: 'CFN_QUOTA_EXCEEDED' });
    await expect(gateway().admit('acme')).rejects.toThrow('the store is away');
    stored.set('acme', '{"day":"x"}');
    await expect(gateway().admit('acme')).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
  });
});
