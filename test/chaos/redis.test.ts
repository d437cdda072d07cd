import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  proxyTo,
  redisMissing,
  redisServer,
  type Proxy,
  type RedisServer,
} from '../../gateway/redis/redis-server.testkit.ts';
import { LEASE_MS, startFleet, type Fleet } from './fleet.ts';
import { faultsOf, sleep, startTraffic, type Outcome } from './traffic.ts';

/** A receipt waits so long for its transaction, in ms, and more on a busy machine. */
const LAST_MS = 500;
/** How long Redis is away; what was asked for is 30 s, and `npm run test:chaos` takes that. */
const OUTAGE_MS = process.env['CFN_CHAOS'] === 'long' ? 30_000 : 5_000;

describe.skipIf(redisMissing)(
  'two gateways on one Redis, under load (skipped without redis-server)',
  { timeout: 180_000 },
  () => {
    let redis: RedisServer;
    let proxy: Proxy;
    let fleet: Fleet;
    beforeAll(async () => {
      redis = await redisServer(['--appendfsync', 'always']);
      proxy = await proxyTo(redis.port);
      fleet = await startFleet({ workers: 2, gateways: 2, redisUrl: `redis://127.0.0.1:${proxy.port}` });
      const traffic = startTraffic(fleet);
      while (!traffic.outcomes.slice(-20).every(({ result }) => result === 'ok') || traffic.outcomes.length < 20)
        await sleep(50);
      await traffic.stop();
    });
    afterAll(async () => {
      await fleet[Symbol.asyncDispose]();
      proxy.stop();
      await redis.stop();
    });

    async function underLoad(fault: () => Promise<void> | void): Promise<readonly Outcome[]> {
      const traffic = startTraffic(fleet);
      await traffic.more(20);
      await fault();
      await traffic.more(20);
      return traffic.stop();
    }
    const failures = (outcomes: readonly Outcome[]): string[] => [
      ...new Set(outcomes.map(({ result }) => result).filter((result) => result !== 'ok')),
    ];
    const requestsCounted = async (): Promise<number> => {
      const answer = await fleet.control('GET', '/v1/usage');
      const { usage = [] } = (await answer.json()) as { usage?: { requests: number }[] };
      return usage.reduce((sum, { requests }) => sum + requests, 0);
    };

    test('killed for a while: callers notice nothing, and all is counted when it is back', async () => {
      const before = await requestsCounted();
      const outcomes = await underLoad(async () => {
        await redis.kill();
        await sleep(OUTAGE_MS);
        await redis.start();
      });
      expect(faultsOf(outcomes)).toEqual([]);
      expect(failures(outcomes)).toEqual([]);
      await expect.poll(requestsCounted, { timeout: 30_000, interval: 200 }).toBe(before + outcomes.length);
    });

    test('slow: callers notice nothing', async () => {
      const outcomes = await underLoad(async () => {
        proxy.delay(300);
        await sleep(OUTAGE_MS);
        proxy.delay(0);
      });
      expect(faultsOf(outcomes)).toEqual([]);
      expect(failures(outcomes)).toEqual([]);
    });

    test('a gateway killed meanwhile: the other goes on, and what was answered is counted no more than once', async () => {
      const before = await requestsCounted();
      const [, second] = fleet.gateways;
      if (second === undefined) throw new Error('no second gateway');
      let killedAt = 0;
      const outcomes = await underLoad(async () => {
        killedAt = Date.now();
        second.process.kill('SIGKILL');
        await second.process.exited;
        await fleet.restart(second);
        await sleep(LEASE_MS);
      });
      expect(faultsOf(outcomes, { cutsAllowed: true })).toEqual([]);
      const good = outcomes.filter(({ result }) => result === 'ok');
      const answered = good.length;
      // Throwaway workers do not tell receipts again, as real ones do (`receipts-kill.test.ts`): those of the last moment may be lost.
      const last = good.filter(({ startedAt, ms }) => Math.abs(startedAt + ms - killedAt) < LAST_MS).length;
      // A call that was cut may have run, and then it is counted, too.
      const cut = outcomes.length - answered;
      await expect
        .poll(async () => (await requestsCounted()) - before, { timeout: 30_000, interval: 200 })
        .toBeGreaterThanOrEqual(answered - last);
      expect((await requestsCounted()) - before).toBeLessThanOrEqual(answered + cut);
    });

    test('restarted empty: it is not believed, changes are refused, and callers are told after a minute at the latest', async () => {
      const traffic = startTraffic(fleet);
      await traffic.more(10);
      await redis.kill();
      await redis.start({ empty: true });
      await sleep(2_000);
      const tenants = await fleet.control('POST', '/v1/tenants', { name: 'late' });
      expect(tenants.status).toBe(500);
      expect(((await tenants.json()) as { code: string }).code).toBe('CFN_STORE_FAILED');
      await traffic.more(10);
      const outcomes = await traffic.stop();
      expect(faultsOf(outcomes)).toEqual([]);
      expect(failures(outcomes)).toEqual([]);
    });
  },
);
