import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openHouse, signedFunction, temporaryFolder, type House } from '../gateway/testkit.ts';
import type { ThrowawayWorker } from '../gateway/worker.testkit.ts';
import { runCfn, type Ended } from './testkit.ts';

/** A whole session with `cfn tenant` and `cfn token`, as operator, owner and caller. */

let house: House;
let worker: ThrowawayWorker;
const cwd = temporaryFolder();
beforeAll(async () => {
  house = await openHouse();
  worker = await house.worker();
  await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } });
  writeFileSync(join(cwd, 'policy.json'), JSON.stringify(house.policy));
});
afterAll(async () => {
  worker.kill();
  await house.gateway.stop();
});
const cfn = (token: string, ...args: string[]): Promise<Ended> =>
  runCfn(args, { cwd, env: { CFN_GATEWAY: house.gateway.url, CFN_TOKEN: token, CFN_POLICY: 'policy.json' } });
const said = async (token: string, ...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await cfn(token, ...args);
  expect(code, stderr).toBe(0);
  return stdout.trim();
};

test('a tenant is made, gets keys and limits, and its callers go by them', async () => {
  const { operator } = house;
  expect(await said(operator, 'tenant', 'add', 'acme')).toMatch(/^added acme/);
  expect(await said(operator, 'tenant', 'list')).toMatch(/^acme since 20/);
  const owner = await said(operator, 'token', 'create', 'first', '--role', 'owner', '--for', 'acme');
  expect(owner).toMatch(/^cfn_[0-9a-f]{16}_[0-9a-f]{72}$/);
  expect(await said(owner, 'tenant', 'limits', 'acme')).toBe('acme has no limits');

  const set = [
    'tenant',
    'limits',
    'acme',
    '--requests-per-second',
    '0.01',
    '--burst',
    '2',
    '--requests-per-month',
    '100',
  ];
  expect((await cfn(owner, ...set)).stderr).toContain('CFN_TOKEN_SCOPE');
  await said(operator, ...set);
  expect(await said(owner, 'tenant', 'limits', '--tenant', 'acme')).toBe(
    [
      'acme',
      '  0.01 requests a second, 2 at once after a pause',
      '  requests of this day: 0 used, no limit',
      '  engineMs of this day: 0 used, no limit',
      '  bytes of this day: 0 used, no limit',
      '  requests of this month: 0 used, 100 at most',
      '  engineMs of this month: 0 used, no limit',
      '  bytes of this month: 0 used, no limit',
    ].join('\n'),
  );

  await house.deploy(owner, await signedFunction({ caller: { plaintext: true, logs: 'none', auth: 'token' } }));
  const made = JSON.parse(
    await said(owner, 'token', 'create', 'app', '--role', 'invoker', '--ttl', '12h', '--json'),
  ) as { id: string; key: string; expiresAt: string };
  expect(Date.parse(made.expiresAt)).toBeGreaterThan(Date.now());
  expect((await cfn(operator, 'invoke', 'acme/echo')).stderr).toContain('CFN_TOKEN_SCOPE');
  expect(await said(made.key, 'invoke', 'acme/echo', '--data', 'sealed')).toBe('sealed');
  expect(await said(made.key, 'invoke', 'acme/echo', '--open', '--data', 'open')).toBe('open');
  const limited = await cfn(made.key, 'invoke', 'acme/echo', '--open', '--data', 'x');
  expect(limited).toMatchObject({ code: 3, stderr: expect.stringContaining('CFN_RATE_LIMITED') as string });

  const listed = await said(owner, 'token', 'list');
  expect(listed).toContain(`${made.id} app: invoker of acme, made 20`);
  expect(listed).toMatch(/app: .*, used 20.*:00:00.000Z/);
  expect(listed).not.toContain(made.key.slice(21));
  expect(await said(owner, 'token', 'revoke', made.id)).toBe(`revoked ${made.id}`);
  expect((await cfn(made.key, 'invoke', 'acme/echo')).stderr).toContain('CFN_TOKEN_INVALID');
  await said(operator, 'tenant', 'limits', 'acme', '--none');
  const free = await said(owner, 'tenant', 'limits', 'acme');
  expect(free).toContain('requests of this month: 2 used, no limit');
  expect(free).not.toContain('at most');
}, 60_000);

test.each([
  [['token', 'revoke', 'x'], /expected the id of a key/],
  [['token', 'create', 'x'], /--role/],
  [['tenant', 'limits', 'acme', '--burst', 'many'], /burst: expected a number/],
  [['tenant', 'limits', 'acme', '--none', '--burst', '1'], /--none goes with no other/],
  [['tenant', 'limits', '../x'], /lower-case letters/],
])('cfn %j is refused', async (args, message) => {
  const { code, stderr } = await cfn(house.operator, ...args);
  expect(stderr).toMatch(message);
  expect(code).toBe(2);
});
