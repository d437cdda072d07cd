import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { redisMissing, redisServer, type RedisServer } from '../../redis/redis-server.testkit.ts';
import { openTestRedis } from '../../redis/testkit.ts';
import { receiptOf, storeContract } from '../contract/store.contract.ts';
import type { Store } from '../store.ts';
import { redisStore } from './index.ts';

describe.skipIf(redisMissing).each([2, 3] as const)(
  'redisStore, RESP %i (skipped without redis-server)',
  (protocol) => {
    let server: RedisServer;
    let prefix = '';
    let count = 0;
    beforeAll(async () => {
      server = await redisServer();
    });
    afterAll(() => server.stop());
    beforeEach(() => {
      prefix = `test${count++}:`;
    });
    const open = async (): Promise<Store> => {
      const { redis, identity } = await openTestRedis({ url: server.url, prefix, protocol });
      return redisStore(redis, () => identity.id);
    };
    storeContract(open);

    test('what was acknowledged survives SIGKILL of Redis, and stays counted once', async () => {
      const store = await open();
      const entries = Array.from({ length: 450 }, (_, i) => ({
        jws: `r${i}`,
        receipt: receiptOf(i.toString(16).padStart(32, '0')),
      }));
      expect(await store.addReceipts(entries, 7)).toBe(450);
      await server.kill();
      await server.start();
      await expect.poll(() => store.addReceipts(entries, 7).catch(() => -1), { timeout: 10_000 }).toBe(0);
      expect(await store.usage({ by: 'tenant', fromHour: 0, toHour: 8, limit: 1 })).toMatchObject([
        { subject: 'acme', requests: 450, cpuMicroseconds: 675_000 },
      ]);
      await store.close();
    });

    test('INV-43 gateways that add and seal at once: every receipt is in one hour, and every hour is sealed once', async () => {
      const stores = await Promise.all([open(), open(), open()]);
      const [reader] = stores;
      if (reader === undefined) throw new Error('no store');
      let hour = 7;
      const won: number[] = [];
      const add = async (store: Store, gateway: number): Promise<void> => {
        for (let i = 0; i < 40; i++) {
          const id = (gateway * 1_000 + i).toString(16).padStart(32, '0');
          await store.addReceipts([{ jws: id, receipt: receiptOf(id, { sequence: i }) }], hour);
          if (i % 4 === 0) hour++;
        }
      };
      const seal = async (store: Store): Promise<void> => {
        for (let i = 0; i < 60; i++) {
          const previous = (await store.newestBatch())?.hour;
          for (const one of await store.unsealedHours(hour + 1)) {
            const { length: size } = await store.receiptsOfHour(one, '', 1_000);
            const batch = { hour: one, size, jws: 'b', blocks: new Uint8Array() };
            if (await store.addBatch(batch, previous)) won.push(one);
            break;
          }
        }
      };
      await Promise.all(stores.flatMap((store, gateway) => [add(store, gateway), seal(store)]));
      expect(won.length).toBeGreaterThan(5);
      expect(won).toEqual([...new Set(won)].toSorted((a, b) => a - b));
      const sealed = await reader.batches(-1, 1_000);
      expect(sealed.map((batch) => batch.hour)).toEqual(won);
      const still = await reader.unsealedHours(10_000);
      let counted = 0;
      for (const { hour: one, size } of [...sealed, ...still.map((it) => ({ hour: it, size: undefined }))]) {
        const { length } = await reader.receiptsOfHour(one, '', 1_000);
        if (size !== undefined) expect(length).toBe(size);
        counted += length;
      }
      expect(counted).toBe(120);
      expect(await reader.usage({ by: 'tenant', fromHour: 0, toHour: 10_000, limit: 1 })).toMatchObject([
        { requests: 120, cpuMicroseconds: 180_000 },
      ]);
      for (const store of stores) await store.close();
    });

    test('usage of many functions comes in pages, over many hours', async () => {
      const store = await open();
      const functions = ['a', 'a-b', 'b', 'c', 'd'];
      for (let hour = 0; hour < 60; hour++) {
        const entries = functions.map((name, i) => {
          const id = (hour * 100 + i).toString(16).padStart(32, '0');
          const ran = { tenant: i === 4 ? 'acme-zoo' : 'acme', name, version: '1'.repeat(64) };
          return { jws: id, receipt: receiptOf(id, { function: ran, sequence: hour * 100 + i }) };
        });
        await store.addReceipts(entries, hour);
      }
      const page = (after: string | undefined, tenant?: string) =>
        store.usage({ by: 'function', fromHour: 5, toHour: 60, after, tenant, limit: 2 });
      expect(await page(undefined)).toMatchObject([
        { subject: 'acme-zoo/d', requests: 55, requestBytes: 550 },
        { subject: 'acme/a', requests: 55 },
      ]);
      expect(await page('acme/a')).toMatchObject([{ subject: 'acme/a-b' }, { subject: 'acme/b' }]);
      expect(await page('acme/b', 'acme')).toMatchObject([{ subject: 'acme/c' }]);
      expect(await page('acme/c', 'acme')).toEqual([]);
      expect(await page(undefined, 'acme-zoo')).toMatchObject([{ subject: 'acme-zoo/d' }]);
      expect(await page('acme-z', 'acme')).toMatchObject([{ subject: 'acme/a' }, { subject: 'acme/a-b' }]);
      await store.close();
    });

    test('a write into a Redis that was emptied is refused', async () => {
      const store = await open();
      await store.addTenant({ name: 'acme', createdAt: 'x' });
      const other = await openTestRedis({ url: server.url, prefix });
      await other.redis.use((client) => client.flushAll());
      await expect(store.addTenant({ name: 'acme', createdAt: 'x' })).rejects.toMatchObject({
        code: 'CFN_STORE_FAILED',
      });
      expect(await other.redis.use((client) => client.dbSize())).toBe(0);
      other.redis.close();
      await store.close();
    });
  },
);
