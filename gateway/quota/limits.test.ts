import { createClient } from 'redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { codeOf, openHouse, signedFunction, type House } from '../testkit.ts';
import type { ThrowawayWorker } from '../worker.testkit.ts';
import { noRedis, startRedis, type RedisServer } from './redis-server.testkit.ts';

/** Two gateways that share a Redis, each with the function and a worker. */
describe.skipIf(noRedis !== undefined)(`limits over gateways${noRedis === undefined ? '' : `: ${noRedis}`}`, () => {
  let redis: RedisServer;
  let houses: House[];
  const workers: ThrowawayWorker[] = [];
  const tokens: string[] = [];
  let go: (() => void)[] = [];

  beforeAll(async () => {
    redis = await startRedis();
    const echo = await signedFunction();
    houses = await Promise.all([openHouse({ redis: redis.url }), openHouse({ redis: redis.url })]);
    for (const house of houses) {
      const worker = await house.worker({
        run: async ({ path }) => {
          if (path === '/wait') await new Promise<void>((resolve) => go.push(resolve));
          return { status: 200, body: [] };
        },
      });
      workers.push(worker);
      tokens.push(await house.tenant('acme'), await house.tenant('other'));
      await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } });
      await house.deploy(tokens.at(-2) ?? '', echo);
    }
  });
  afterAll(async () => {
    for (const worker of workers) worker.kill();
    await Promise.all(houses.map((house) => house.gateway.stop()));
    await redis.stop();
  });

  const [first, second] = [(): House => houses[0] as House, (): House => houses[1] as House];
  const limit = async (limits: object): Promise<void> => {
    const client = await createClient({ url: redis.url }).connect();
    await client.sendCommand(['FLUSHALL']);
    client.destroy();
    for (const house of houses)
      expect((await house.call('PUT', '/v1/tenants/acme/limits', { token: house.operator, body: limits })).status).toBe(
        200,
      );
  };
  const call = (house: House, path = '/f/acme/echo/'): Promise<Response> => house.call('POST', path, { body: 'x' });

  test('a rate is one for both; the answer says when to try again', async () => {
    await limit({ requestsPerSecond: 0.5, burst: 4 });
    const answers = [];
    for (let i = 0; i < 10; i++) answers.push(await call(i % 2 === 0 ? first() : second()));
    expect(answers.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(4);
    expect(answers.filter(({ status }) => status === 200).length).toBeLessThanOrEqual(6);
    const refused = answers.at(-1) as Response;
    expect(Object.fromEntries(refused.headers)).toMatchObject({
      'retry-after': expect.stringMatching(/^[12]$/) as string,
      'ratelimit-policy': '"requests";q=1;w=2',
      'cfn-request-id': expect.stringMatching(/^[0-9a-f]{32}$/) as string,
    });
    expect(await codeOf(refused)).toBe('429 CFN_RATE_LIMITED');
  });

  test('slots are one number for both', async () => {
    await limit({ concurrency: 2 });
    const waiting = [call(first(), '/f/acme/echo/wait'), call(second(), '/f/acme/echo/wait')];
    await expect.poll(() => go.length, { timeout: 10_000 }).toBe(2);
    expect(await codeOf(await call(first()))).toBe('429 CFN_RATE_LIMITED');
    expect(await codeOf(await call(second()))).toBe('429 CFN_RATE_LIMITED');
    for (const one of go.splice(0)) one();
    expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([200, 200]);
    await expect.poll(async () => (await call(first())).status, { timeout: 10_000 }).toBe(200);
  });

  test('a quota counts what receipts of both say; the tenant sees it, and another does not', async () => {
    const standing = async (house: House, token: string) => house.call('GET', '/v1/tenants/acme/limits', { token });
    const before = ((await (await standing(first(), tokens[0] ?? '')).json()) as Told).used.day.bytes;
    await limit({ day: { bytes: before + 1 } });
    expect((await call(first())).status).toBe(200);
    type Told = { limits: object; used: { day: { requests: number; bytes: number } } };
    await expect
      .poll(async () => ((await (await standing(first(), tokens[0] ?? '')).json()) as Told).used.day.bytes)
      .toBeGreaterThan(before);
    const seen = (await (await standing(second(), tokens[2] ?? '')).json()) as Told;
    expect(seen).toMatchObject({ limits: { day: { bytes: before + 1 } } });
    const refused = await call(second());
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await codeOf(refused)).toBe('429 CFN_QUOTA_EXCEEDED');
    expect(await codeOf(await standing(first(), tokens[1] ?? ''))).toBe('403 CFN_TOKEN_SCOPE');
  });

  test('while Redis hangs or is gone nothing hangs, and limits hold; a Redis started empty learns what was counted', async () => {
    await limit({ requestsPerSecond: 1, burst: 2, day: { requests: 1_000 } });
    await call(first());
    await call(second());
    redis.signal('SIGSTOP');
    const through = async (): Promise<number> => {
      const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => call(i % 2 === 0 ? first() : second())));
      return answers.filter(({ status }) => status === 200).length;
    };
    const startedMs = performance.now();
    expect(await through()).toBeLessThanOrEqual(4 + (performance.now() - startedMs) / 1000);
    expect(performance.now() - startedMs).toBeLessThan(5_000);
    redis.signal('SIGCONT');
    const { port } = redis;
    await redis.stop();
    const goneMs = performance.now();
    expect(await through()).toBeLessThanOrEqual(4 + (performance.now() - startedMs) / 1000);
    expect(performance.now() - goneMs).toBeLessThan(5_000);
    redis = await startRedis(port);
    const counted = async (house: House, token = '') =>
      (
        (await (await house.call('GET', '/v1/tenants/acme/limits', { token })).json()) as {
          used: { day: { requests: number } };
        }
      ).used.day.requests;
    await expect
      .poll(async () => (await counted(first(), tokens[0])) - (await counted(second(), tokens[2])), {
        timeout: 15_000,
        interval: 500,
      })
      .toBe(0);
    expect(await counted(first(), tokens[0])).toBeGreaterThanOrEqual(2);
  }, 60_000);

  test.each([
    [{ requestsPerSecond: 0 }],
    [{ burst: 5 }],
    [{ concurrency: 0 }],
    [{ day: { requests: -1 } }],
    [{ year: {} }],
    [[]],
  ])('limits of %j are refused', async (body) => {
    const reply = await first().call('PUT', '/v1/tenants/acme/limits', { token: first().operator, body });
    expect(await codeOf(reply)).toBe('400 CFN_INPUT_INVALID');
  });

  test('a tenant cannot set its own, and one that is not there has none', async () => {
    const put = (path: string, token: string | undefined) =>
      first().call('PUT', path, { token, body: {} }).then(codeOf);
    expect(await put('/v1/tenants/acme/limits', tokens[0])).toBe('403 CFN_TOKEN_SCOPE');
    expect(await put('/v1/tenants/nobody/limits', first().operator)).toBe('404 CFN_TENANT_NOT_FOUND');
    const got = await first().call('GET', '/v1/tenants/nobody/limits', { token: first().operator });
    expect(await codeOf(got)).toBe('404 CFN_TENANT_NOT_FOUND');
  });
});

test('a gateway that was started again goes on from its receipts', async () => {
  const house = await openHouse();
  const worker = await house.worker();
  const token = await house.tenant('acme');
  await house.deploy(token, await signedFunction());
  await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } });
  await house.call('PUT', '/v1/tenants/acme/limits', { token: house.operator, body: { day: { requests: 2 } } });
  expect((await house.call('POST', '/f/acme/echo/')).status).toBe(200);
  await house.gateway.stop();
  const again = await openHouse({ stateFolder: house.stateFolder, policy: house.policy });
  await expect.poll(async () => (await again.call('POST', '/f/acme/echo/')).status, { timeout: 15_000 }).not.toBe(503);
  expect(await codeOf(await again.call('POST', '/f/acme/echo/'))).toBe('429 CFN_QUOTA_EXCEEDED');
  worker.kill();
  await again.gateway.stop();
});
