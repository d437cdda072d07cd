import { createClient } from 'redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bookContract } from './book.contract.ts';
import { redisBook } from './redis-book.ts';
import { noRedis, startRedis, type RedisServer } from './redis-server.testkit.ts';

const SLOTS_MS = 300;

describe.skipIf(noRedis !== undefined)(`redisBook${noRedis === undefined ? '' : `: ${noRedis}`}`, () => {
  let server: RedisServer;
  let clients: ReturnType<typeof createClient>[];
  beforeAll(async () => {
    server = await startRedis();
    clients = [createClient({ url: server.url }), createClient({ url: server.url })];
    await Promise.all(clients.map((client) => client.on('error', () => undefined).connect()));
  });
  afterAll(async () => {
    for (const client of clients) client.destroy();
    await server.stop();
  });
  let opened = 0;
  bookContract(() => redisBook(clients[opened++ % 2] as never, SLOTS_MS), SLOTS_MS);

  test('goes on with a Redis that forgot the script, and leaves nothing behind for good', async () => {
    const [client] = clients;
    await client?.sendCommand(['SCRIPT', 'FLUSH']);
    const account = {
      gateway: 'a',
      rate: { perSecond: 1, burst: 1, wanted: 1 },
      slots: { max: 1, inUse: 0, wanted: 1 },
      periods: [{ id: '2026-11-23', keepSeconds: 100, used: { requests: 1, engineMs: 1.5, bytes: 1 } }],
    };
    expect(await redisBook(client as never).settle('zoo', account)).toMatchObject({ tokens: 1, slots: 1 });
    const keys = (await client?.sendCommand(['KEYS', '*{zoo}*'])) as unknown as string[];
    expect(keys.length).toBe(3);
    for (const key of keys) expect(await client?.sendCommand(['PTTL', key])).toBeGreaterThan(0);
  });

  test('refuses an answer that is none of the script’s', async () => {
    const book = redisBook({ sendCommand: async () => ['1'] });
    await expect(book.settle('zoo', { gateway: 'a', periods: [] })).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
  });
});
