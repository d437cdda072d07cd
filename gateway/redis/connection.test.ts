import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { proxyTo, redisMissing, redisServer, type RedisServer } from './redis-server.testkit.ts';
import { openTestRedis } from './testkit.ts';

const refused = { code: 'CFN_STORE_FAILED' };

describe.skipIf(redisMissing)('a connection to Redis (skipped without redis-server)', () => {
  const cleanup: (() => unknown)[] = [];
  afterEach(async () => {
    for (const step of cleanup.splice(0).toReversed()) await step();
  });
  const server = async (flags: readonly string[] = []): Promise<RedisServer> => {
    const made = await redisServer(flags);
    cleanup.push(() => made.stop());
    return made;
  };
  const opened = async (...args: Parameters<typeof openTestRedis>): ReturnType<typeof openTestRedis> => {
    const made = await openTestRedis(...args);
    cleanup.push(() => made.redis.close());
    return made;
  };

  test('refuses at once while Redis is away, and works again when it is back', async () => {
    const it = await server();
    const { redis } = await opened({ url: it.url });
    await redis.use((client) => client.set('a', '1'));
    await it.kill();
    const before = performance.now();
    await expect(redis.use((client) => client.get('a'))).rejects.toMatchObject(refused);
    expect(performance.now() - before).toBeLessThan(1_000);
    await it.start();
    await expect.poll(() => redis.use((client) => client.get('a')).catch(() => ''), { timeout: 10_000 }).toBe('1');
  });

  test('a command of a frozen Redis ends at its deadline, and the connection is made anew', async () => {
    const it = await server();
    const { redis, logs } = await opened({ url: it.url, commandMs: 200 });
    it.freeze();
    await expect(redis.use((client) => client.incr('a'))).rejects.toMatchObject(refused);
    expect(logs.join()).toContain('silent');
    await expect(redis.use((client) => client.get('a'))).rejects.toMatchObject(refused);
    it.thaw();
    await expect.poll(() => redis.use((client) => client.ping()).catch(() => ''), { timeout: 10_000 }).toBe('PONG');
  });

  test('a slow Redis is waited for until the deadline only', async () => {
    const it = await server();
    const proxy = await proxyTo(it.port);
    cleanup.push(() => proxy.stop());
    const { redis } = await opened({ url: `redis://127.0.0.1:${proxy.port}`, commandMs: 500 });
    proxy.delay(30);
    expect(await redis.use((client) => client.ping())).toBe('PONG');
    proxy.delay(2_000);
    await expect(redis.use((client) => client.ping())).rejects.toMatchObject(refused);
  });

  test.each([
    ['without an append-only file', ['--appendonly', 'no']],
    ['that writes later than it answers', ['--appendfsync', 'everysec']],
    ['that evicts keys', ['--maxmemory-policy', 'allkeys-lru']],
  ])('refuses a Redis %s', async (_, flags) => {
    const { url } = await server(flags);
    await expect(opened({ url })).rejects.toMatchObject(refused);
  });

  test('says so where a provider hides whether writes are synced', async () => {
    const { logs } = await opened({ url: (await server(['--rename-command', 'CONFIG', ''])).url });
    expect(logs.join()).toContain('redis.durability-unknown');
  });

  test('a Redis restarted empty is refused, loudly, until its data is back', async () => {
    const it = await server();
    const file = join(mkdtempSync(join(tmpdir(), 'cfn-id-')), 'redis.id');
    const { redis, logs, identity } = await opened({ url: it.url }, file);
    const known = identity.id;
    expect(known).toMatch(/^[0-9a-f]{32}$/);
    await it.kill();
    await it.start({ empty: true });
    await expect.poll(() => logs.join(), { timeout: 10_000 }).toContain('redis.refused');
    await expect(redis.use((client) => client.ping())).rejects.toMatchObject(refused);
    await expect(openTestRedis({ url: it.url }, file)).rejects.toMatchObject(refused);
    // Another that never saw it begins with what is there; nobody took the empty one over meanwhile.
    const other = await opened({ url: it.url });
    expect(other.identity.id).not.toBe(known);
    await other.redis.use((client) => client.set('cfn:identity', known)); // as a backup brings it back
    await expect.poll(() => redis.use((client) => client.ping()).catch(() => ''), { timeout: 10_000 }).toBe('PONG');
  });

  test('refuses a wrong password, and does not repeat it', async () => {
    const { port } = await server();
    const url = `redis://user:hunter2-secret@127.0.0.1:${port}`;
    const failure = await opened({ url }).catch((cause: unknown) => cause as Error);
    expect(failure).toMatchObject(refused);
    expect(String((failure as Error).message)).not.toContain('hunter2');
  });

  test('takes no more commands than may wait', async () => {
    const it = await server();
    const { redis } = await opened({ url: it.url, commandMs: 2_000 });
    it.freeze();
    const all = Array.from({ length: 10_050 }, () => redis.use((client) => client.get('a')));
    const full = (await Promise.allSettled(all)).filter(
      (result) => result.status === 'rejected' && String(result.reason).includes('queue is full'),
    );
    expect(full).toHaveLength(50);
    it.thaw();
  });
});
