import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Redis } from '../redis/connection.ts';
import { redisMissing, redisServer, type RedisServer } from '../redis/redis-server.testkit.ts';
import { openTestRedis } from '../redis/testkit.ts';
import { bookContract } from './book.contract.ts';
import { redisBook } from './redis-book.ts';

const SLOTS_MS = 300;

describe.skipIf(redisMissing).each([2, 3] as const)('redisBook, RESP %i (skipped without redis-server)', (protocol) => {
  let server: RedisServer;
  let connections: [Redis, Redis];
  beforeAll(async () => {
    server = await redisServer();
    const open = async (): Promise<Redis> => (await openTestRedis({ url: server.url, protocol })).redis;
    connections = [await open(), await open()];
  });
  afterAll(async () => {
    for (const redis of connections) redis.close();
    await server.stop();
  });
  let opened = 0;
  bookContract(() => redisBook(connections[opened++ % 2] ?? connections[0], SLOTS_MS), SLOTS_MS);

  test('goes on with a Redis that forgot the script, and leaves nothing behind for good', async () => {
    const [redis] = connections;
    await redis.use((client) => client.scriptFlush());
    const account = {
      gateway: 'a',
      rate: { perSecond: 1, burst: 1, wanted: 1 },
      slots: { max: 1, inUse: 0, wanted: 1 },
      periods: [{ id: '2026-11-23', keepSeconds: 100, used: { requests: 1, engineMs: 1.5, bytes: 1 } }],
    };
    expect(await redisBook(redis).settle('zoo', account)).toMatchObject({ tokens: 1, slots: 1 });
    const keys = await redis.use((client) => client.keys('*{zoo}*'));
    expect(keys.length).toBe(3);
    for (const key of keys) expect(await redis.use((client) => client.pTTL(key))).toBeGreaterThan(0);
  });

  test('refuses an answer that is none of the script’s', async () => {
    const book = redisBook({ run: async () => ['1'] });
    await expect(book.settle('zoo', { gateway: 'a', periods: [] })).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
  });
});
