import { copyFileSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'redis';
import { afterEach, describe, expect, test } from 'vitest';
import { simulatedAttester } from '../../attestation/insecure/index.ts';
import { proxyTo, redisMissing, redisServer, type RedisServer } from '../redis/redis-server.testkit.ts';
import type { GatewayOptions } from '../service.ts';
import { codeOf, openHouse, signedFunction, temporaryFolder, type House } from '../testkit.ts';
import type { ThrowawayWorker } from '../worker.testkit.ts';

const TIMEOUT = { timeout: 15_000 };

describe.skipIf(redisMissing)('gateways that share a Redis (skipped without redis-server)', () => {
  const cleanup: (() => unknown)[] = [];
  afterEach(async () => {
    for (const step of cleanup.splice(0).toReversed()) await step();
  });

  /** Gateways with one secret for tokens, and one worker that takes both their certificates. */
  async function fleet(change: Partial<GatewayOptions> = {}): Promise<{
    server: RedisServer;
    first: House;
    second: House;
    worker: ThrowawayWorker;
  }> {
    const server = await redisServer();
    cleanup.push(() => server.stop());
    const options = { redisUrl: server.url, ...change };
    const first = await openHouse(options);
    cleanup.push(() => first.gateway.stop());
    const stateFolder = temporaryFolder();
    copyFileSync(join(first.stateFolder, 'token.secret'), join(stateFolder, 'token.secret'));
    const second = await openHouse({ ...options, stateFolder, policy: first.policy });
    cleanup.push(() => second.gateway.stop());
    const worker = await first.worker({ gatewayCertificatePem: certificates(first, second) });
    cleanup.push(() => worker.kill());
    const admitted = await first.call('POST', '/v1/workers', {
      token: first.operator,
      body: { address: worker.address },
    });
    expect(admitted.status).toBe(201);
    return { server, first, second, worker };
  }
  const certificates = (...houses: House[]): string =>
    houses.map(({ stateFolder }) => readFileSync(join(stateFolder, 'client.crt'), 'utf8')).join('');
  const invoke = (house: House): Promise<Response> => house.call('POST', '/f/acme/echo/', { body: 'hello' });
  const answers = async (house: House): Promise<string> => {
    const response = await invoke(house);
    return response.ok ? response.text() : codeOf(response);
  };
  const workersOf = async (house: House): Promise<string[]> => {
    const reply = await house.call('GET', '/v1/workers', { token: house.operator });
    return ((await reply.json()) as { workers: { workerId: string }[] }).workers.map(({ workerId }) => workerId);
  };
  const ready = async (house: House): Promise<string> => {
    const reply = await fetch(`${house.gateway.adminUrl}/readyz`);
    const { store = '' } = (await reply.json()) as { store?: string };
    return `${reply.status} ${store}`.trim();
  };

  test('what one deploys, others serve: each admits the worker itself, and takes the tokens of the others', async () => {
    const { first, second, worker } = await fleet();
    const token = await first.tenant('acme');
    await expect.poll(() => answers(second), TIMEOUT).toBe('404 CFN_FUNCTION_NOT_FOUND'); // and keeps that in its view
    const signed = await signedFunction();
    expect((await first.deploy(token, signed)).status).toBe(201);
    await expect.poll(() => answers(second), TIMEOUT).toBe('hello');
    expect(await workersOf(second)).toEqual([worker.workerId]);
    // A token of the first, at the second; and the other way round the newer version.
    const newer = await signedFunction({ vars: { A: '1' } });
    expect((await second.deploy(token, newer)).status).toBe(201);
    const current = async (): Promise<string> => {
      const reply = await first.call('GET', '/v1/functions/acme/echo', { token });
      return ((await reply.json()) as { version: string }).version;
    };
    await expect.poll(current, TIMEOUT).toBe(newer.version);
    expect((await second.deploy(token, signed)).status).toBe(200); // back to the older one
    await expect.poll(current, TIMEOUT).toBe(signed.version);
  });

  test('INV-44 a consent that was withdrawn at one gateway is withdrawn at all; a worker taken out at one leaves all', async () => {
    const { first, second, worker } = await fleet();
    await first.deploy(await first.tenant('acme'), await signedFunction());
    await expect.poll(() => answers(second), TIMEOUT).toBe('hello');
    const body = { subject: 'acme/echo', admitted: false };
    await first.call('POST', '/v1/consents', { token: first.operator, body });
    await expect.poll(() => answers(second), TIMEOUT).toBe('403 CFN_OPERATOR_CONSENT_MISSING');
    await second.call('DELETE', `/v1/workers/${worker.workerId}`, { token: second.operator });
    await expect.poll(() => workersOf(first), TIMEOUT).toEqual([]);
  });

  test('INV-44 a key made at one is taken by all, also while Redis is away; revoked at one, it is refused by all', async () => {
    const { server, first, second } = await fleet();
    const owner = await first.tenant('acme');
    const made = await first.call('POST', '/v1/keys', { token: owner, body: { name: 'ci', role: 'invoker' } });
    const { key, id } = (await made.json()) as { key: string; id: string };
    const caller = { plaintext: true, logs: 'none', auth: 'token' } as const;
    await first.deploy(owner, await signedFunction({ caller }));
    const taken = async (house: House): Promise<string> => {
      const reply = await house.call('POST', '/f/acme/echo/', { token: key, body: 'taken' });
      return reply.ok ? reply.text() : codeOf(reply);
    };
    await expect.poll(() => taken(first), TIMEOUT).toBe('taken');
    await expect.poll(() => taken(second), TIMEOUT).toBe('taken');
    await sleep(600); // nothing leaves the views any more
    expect([await taken(first), await taken(second)]).toEqual(['taken', 'taken']);
    await server.kill();
    expect([await taken(first), await taken(second)]).toEqual(['taken', 'taken']);
    await server.start();
    await expect.poll(() => ready(second), TIMEOUT).toBe('200');
    expect((await second.call('DELETE', `/v1/keys/${id}`, { token: owner })).status).toBe(204);
    expect(await taken(second)).toBe('401 CFN_TOKEN_INVALID');
    await expect.poll(() => taken(first), TIMEOUT).toBe('401 CFN_TOKEN_INVALID');
  });

  test('calls go on while Redis is away, changes are refused, and every receipt is counted in the end', async () => {
    const { server, first, second } = await fleet();
    const token = await first.tenant('acme');
    await first.deploy(token, await signedFunction());
    await expect.poll(() => answers(second), TIMEOUT).toBe('hello');
    await sleep(600); // until the gateways have seen each other's changes, and nothing leaves their views any more
    expect([await answers(first), await answers(second)]).toEqual(['hello', 'hello']);
    await server.kill();
    let calls = 3;
    const until = performance.now() + 2_000;
    while (performance.now() < until) {
      expect(await answers(first)).toBe('hello');
      expect(await answers(second)).toBe('hello');
      calls += 2;
    }
    expect(await codeOf(await first.deploy(token, await signedFunction()))).toBe('500 CFN_STORE_FAILED');
    expect(await ready(first)).toBe('200 away');
    await server.start();
    await expect.poll(() => ready(first), TIMEOUT).toBe('200');
    expect((await first.deploy(token, await signedFunction({ vars: { A: '1' } }))).status).toBe(201);
    const counted = async (): Promise<number | undefined> => {
      const reply = await second.call('GET', '/v1/usage', { token });
      return ((await reply.json()) as { usage?: { requests: number }[] }).usage?.[0]?.requests;
    };
    // Polls of the second gateway that found no function have no receipt.
    await expect.poll(counted, TIMEOUT).toBe(calls);
  });

  test('INV-44 the view serves no longer than its bound; a Redis restarted empty is said loudly, and is not believed', async () => {
    let later = 0;
    const { server, first, second } = await fleet({ monotonicMs: () => performance.now() + later });
    await first.deploy(await first.tenant('acme'), await signedFunction());
    await sleep(600);
    await expect.poll(() => answers(second), TIMEOUT).toBe('hello');
    await server.kill();
    await server.start({ empty: true });
    await expect.poll(() => second.logs.join(), TIMEOUT).toContain('redis.refused');
    expect(await answers(second)).toBe('hello');
    expect(await ready(second)).toBe('200 away');
    const body = { subject: 'acme', admitted: true };
    expect(await codeOf(await second.call('POST', '/v1/consents', { token: second.operator, body }))).toBe(
      '500 CFN_STORE_FAILED',
    );
    later = 61_000;
    expect(await ready(second)).toBe('503');
    expect(await answers(second)).toBe('500 CFN_STORE_FAILED'); // never 404: what is not there is not known
  });

  test('a lease is renewed while Redis is away, and the evidence of it is kept in the end', async () => {
    const { server, first, worker } = await fleet({ leaseMs: 2_000 });
    await server.kill();
    await sleep(4_000);
    expect(await workersOf(first)).toEqual([worker.workerId]);
    await server.start();
    const listed = await first.call('GET', '/v1/workers', { token: first.operator });
    const { workers } = (await listed.json()) as { workers: { evidence: string }[] };
    const digest = workers[0]?.evidence ?? '';
    const archived = async (): Promise<boolean> => {
      const reader = createClient({ url: server.url, RESP: 2 });
      await reader.connect();
      const found = await reader.exists(`cfn:evidence:${digest}`);
      reader.destroy();
      return found === 1;
    };
    await expect.poll(archived, TIMEOUT).toBe(true);
  });

  test('a slow Redis holds up no call that the view can answer', async () => {
    const server = await redisServer();
    const proxy = await proxyTo(server.port);
    cleanup.push(
      () => server.stop(),
      () => proxy.stop(),
    );
    const house = await openHouse({ redisUrl: `redis://127.0.0.1:${proxy.port}` });
    const worker = await house.worker();
    cleanup.push(
      () => house.gateway.stop(),
      () => worker.kill(),
    );
    await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } });
    await house.deploy(await house.tenant('acme'), await signedFunction());
    await sleep(600);
    expect(await answers(house)).toBe('hello');
    proxy.delay(1_500); // a command takes 3 s, and is over its deadline
    const before = performance.now();
    for (let i = 0; i < 5; i++) expect(await answers(house)).toBe('hello');
    expect(performance.now() - before).toBeLessThan(3_000);
  });

  test('INV-45 what an attacker writes into Redis gets no request', async () => {
    const { server, first, second, worker } = await fleet();
    const token = await first.tenant('acme');
    await first.deploy(token, await signedFunction());
    await expect.poll(() => answers(second), TIMEOUT).toBe('hello');
    const certificate = certificates(first, second);
    const unmeasured = await first.worker({
      gatewayCertificatePem: certificate,
      attester: simulatedAttester(first.platform, { mrtd: new Uint8Array(48) }),
    });
    const replaying = await first.worker({
      gatewayCertificatePem: certificate,
      tamper: (it) => ({ ...it, nonce: 'A'.repeat(43) }),
    });
    cleanup.push(
      () => unmeasured.kill(),
      () => replaying.kill(),
    );
    const attacker = createClient({ url: server.url, RESP: 2 });
    await attacker.connect();
    cleanup.push(() => attacker.destroy());
    for (const value of [unmeasured.address, replaying.address, '127.0.0.1:1', 'not an address', '\u0000'])
      await attacker.zAdd('cfn:worker-addresses', { score: 0, value });
    const changed = async (...subjects: string[]): Promise<void> => {
      for (const subject of subjects) {
        const count = await attacker.incr('cfn:changes:count');
        await attacker.xAdd('cfn:changes', `${count}-1`, { subject });
      }
    };
    await changed('worker x');
    await expect.poll(() => second.logs.join(), TIMEOUT).toContain('CFN_MEASUREMENT_UNKNOWN');
    await expect.poll(() => second.logs.join(), TIMEOUT).toContain('CFN_NONCE_MISMATCH');
    expect(await workersOf(second)).toEqual([worker.workerId]);
    expect([...unmeasured.invocations, ...replaying.invocations]).toEqual([]);

    // Another tenant's function in the place of this one, and an altered manifest.
    const other = await signedFunction({ tenant: 'evil' });
    await first.deploy(await first.tenant('evil'), other);
    const forged = { versions: [{ version: other.version, percent: 100 }], at: '', cause: 'deploy', message: '' };
    await attacker.lPush('cfn:deployments:acme/echo', `9 ${JSON.stringify(forged)}`);
    await changed('function acme/echo');
    await expect.poll(() => answers(second), TIMEOUT).toBe('422 CFN_MANIFEST_ALTERED');
    // A log of changes that is none: what is known counts until its bound.
    await attacker.del('cfn:changes');
    await attacker.set('cfn:changes', 'x');
    await expect.poll(() => second.logs.join(), TIMEOUT).toContain('fleet.stale');
    expect(await workersOf(second)).toEqual([worker.workerId]);
  });
});
