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
