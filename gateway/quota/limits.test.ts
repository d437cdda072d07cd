import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createClient } from 'redis';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { redisMissing, redisServer, type RedisServer } from '../redis/redis-server.testkit.ts';
import { codeOf, openHouse, signedFunction, temporaryFolder, type House } from '../testkit.ts';
import type { ThrowawayWorker } from '../worker.testkit.ts';

/** Two gateways that share a Redis, with one function and one worker. */
describe.skipIf(redisMissing)('limits over gateways (skipped without redis-server)', () => {
  let redis: RedisServer;
  let houses: House[];
  let worker: ThrowawayWorker;
  let acme = '';
  let other = '';
  let go: (() => void)[] = [];

  beforeAll(async () => {
    redis = await redisServer();
    const one = await openHouse({ redisUrl: redis.url });
    const stateFolder = temporaryFolder();
    copyFileSync(join(one.stateFolder, 'token.secret'), join(stateFolder, 'token.secret'));
    const two = await openHouse({ redisUrl: redis.url, stateFolder, policy: one.policy });
    houses = [one, two];
    worker = await one.worker({
      gatewayCertificatePem: houses.map((it) => readFileSync(join(it.stateFolder, 'client.crt'), 'utf8')).join(''),
      run: async ({ path }) => {
        if (path === '/wait') await new Promise<void>((resolve) => go.push(resolve));
        return { status: 200, body: [] };
      },
    });
    [acme, other] = [await one.tenant('acme'), await one.tenant('other')];
    await one.call('POST', '/v1/workers', { token: one.operator, body: { address: worker.address } });
    await one.deploy(acme, await signedFunction());
    await vi.waitFor(async () => expect((await call(two)).status).toBe(200), { timeout: 15_000, interval: 100 });
  });
  afterAll(async () => {
    worker.kill();
    await Promise.all(houses.map((house) => house.gateway.stop()));
    await redis.stop();
  });

  const [first, second] = [(): House => houses[0] as House, (): House => houses[1] as House];
  /** The book, and nothing else. */
  const forget = async (): Promise<void> => {
    const client = await createClient({ url: redis.url, RESP: 2 }).connect();
    await client.del(['cfn:quota', ...(await client.keys('cfn:quota:*'))]);
    client.destroy();
  };
  const limit = async (limits: object): Promise<void> => {
    await forget();
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
    const before = ((await (await standing(first(), acme)).json()) as Told).used.day.bytes;
    await limit({ day: { bytes: before + 1 } });
    expect((await call(first())).status).toBe(200);
    type Told = { limits: object; used: { day: { requests: number; bytes: number } } };
    await expect
      .poll(async () => ((await (await standing(first(), acme)).json()) as Told).used.day.bytes)
      .toBeGreaterThan(before);
    const seen = (await (await standing(second(), acme)).json()) as Told;
    expect(seen).toMatchObject({ limits: { day: { bytes: before + 1 } } });
    const refused = await call(second());
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await codeOf(refused)).toBe('429 CFN_QUOTA_EXCEEDED');
    expect(await codeOf(await standing(first(), other))).toBe('403 CFN_TOKEN_SCOPE');
  });

  test('while Redis hangs or is gone nothing hangs, and limits hold; a book that was lost learns what was counted', async () => {
    await limit({ requestsPerSecond: 1, burst: 2, day: { requests: 1_000 } });
    await call(first());
    await call(second());
    redis.freeze();
    const through = async (): Promise<number> => {
      const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => call(i % 2 === 0 ? first() : second())));
      return answers.filter(({ status }) => status === 200).length;
    };
    const startedMs = performance.now();
    expect(await through()).toBeLessThanOrEqual(4 + (performance.now() - startedMs) / 1000);
    expect(performance.now() - startedMs).toBeLessThan(5_000);
    redis.thaw();
    await redis.kill();
    const goneMs = performance.now();
    expect(await through()).toBeLessThanOrEqual(4 + (performance.now() - startedMs) / 1000);
    expect(performance.now() - goneMs).toBeLessThan(5_000);
    await redis.start();
    await forget();
    const counted = async (house: House, token = '') =>
      (
        (await (await house.call('GET', '/v1/tenants/acme/limits', { token })).json()) as {
          used: { day: { requests: number } };
        }
      ).used.day.requests;
    await expect
      .poll(async () => (await counted(first(), acme)) - (await counted(second(), acme)), {
        timeout: 15_000,
        interval: 500,
      })
      .toBe(0);
    expect(await counted(first(), acme)).toBeGreaterThanOrEqual(2);
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
    expect(await put('/v1/tenants/acme/limits', acme)).toBe('403 CFN_TOKEN_SCOPE');
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
