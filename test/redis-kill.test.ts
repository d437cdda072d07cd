import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startService, type ServiceProcess } from '../deploy/service-process.ts';
import { redisMissing, redisServer, type RedisServer } from '../gateway/redis/redis-server.testkit.ts';
import { usageAnswerSchema } from '../proto/index.ts';
import { startTestSystem, type TestSystem } from './local-system.ts';

/** Real processes: Redis is killed, and the gateway that serves without it, too. */
describe.skipIf(redisMissing)('a gateway on Redis (skipped without redis-server)', () => {
  const QUICK = 'export default { fetch: async (r) => new Response(`you said ${await r.text()}`) }';
  const TIMEOUT = { timeout: 30_000, interval: 250 };
  let redis: RedisServer;
  let system: TestSystem;
  let gateway: Pick<ServiceProcess<unknown>, 'kill' | 'stop' | 'exited'> | undefined;
  let urlFile = '';
  beforeAll(async () => {
    redis = await redisServer();
    urlFile = join(mkdtempSync(join(tmpdir(), 'cfn-redis-url-')), 'url');
    writeFileSync(urlFile, redis.url, { mode: 0o600 });
    system = await startTestSystem({ gatewayArgs: [`--redis-url-file=${urlFile}`] });
    gateway = system.local.gateway;
    await system.deploy('quick', QUICK);
  });
  afterAll(async () => {
    await gateway?.stop();
    await system?.stop();
    await redis?.stop();
  });

  /** Where it was; the worker goes on meanwhile. */
  async function restartGateway(): Promise<void> {
    const { port } = new URL(system.local.gatewayUrl);
    gateway = await startService({
      name: 'gateway',
      entry: new URL('../gateway/main.ts', import.meta.url),
      args: [
        `--state=${join(system.stateDir, 'gateway')}`,
        `--listen=127.0.0.1:${port}`,
        `--policy=${join(system.stateDir, 'policy.json')}`,
        `--redis-url-file=${urlFile}`,
      ],
      onLog: (line) => void system.logs.push(`gateway: ${line}`),
    });
  }
  const answered = async (): Promise<boolean> => {
    const reply = await system.call('quick', { method: 'POST', body: 'x', signal: AbortSignal.timeout(10_000) });
    return (await reply.text()) === 'you said x';
  };
  const counted = async (): Promise<number> => {
    const reply = await system.control('GET', '/v1/usage?by=tenant', undefined, system.local.operatorToken);
    if (!reply.ok) return -1;
    return usageAnswerSchema.parse(await reply.json()).usage[0]?.requests ?? 0;
  };

  test('INV-42 receipts that wait while Redis is away are not lost with the gateway that has them', async () => {
    let calls = 0;
    const call = async (): Promise<void> => {
      expect(await answered()).toBe(true);
      calls++;
    };
    await expect.poll(answered, TIMEOUT).toBe(true);
    calls++;
    await expect.poll(counted, TIMEOUT).toBe(calls);
    await sleep(1_000); // until the gateway has heard of its own deployment, and nothing leaves its view any more
    await call();
    await expect.poll(counted, TIMEOUT).toBe(calls);
    await redis.kill();
    for (let i = 0; i < 20; i++) await call();
    gateway?.kill('SIGKILL');
    await gateway?.exited;
    await redis.start();
    await restartGateway();
    await expect.poll(counted, TIMEOUT).toBe(calls);
    await expect.poll(answered, TIMEOUT).toBe(true);
    await expect.poll(counted, TIMEOUT).toBe(calls + 1);
  }, 60_000);
});
