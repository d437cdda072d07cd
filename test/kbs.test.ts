import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCfn } from '../cli/testkit.ts';
import { processTree } from '../deploy/index.ts';
import { problemCode, startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

/** How long the tokens of this broker live, in seconds. */
const TOKEN_SECONDS = 4;
const SOURCE = 'export default { fetch: (request, env) => Response.json(env.VAD.outputs.map(({ name }) => name)) }';

let system: TestSystem;
let cwd: string;
let env: Record<string, string>;
/** Another's broker: the protocol of our KMS, with tokens that live for seconds. */
let broker: { readonly port: number; answered: number; down: boolean; close(): void };

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), 'cfn-kbs-'));
  system = await startTestSystem();
  broker = await startBroker(system.local.kmsUrl);
  const { gateway, token, kms, kmsToken, policy } = system.local.config;
  env = { CFN_GATEWAY: gateway, CFN_TOKEN: token, CFN_KMS: kms, CFN_KMS_TOKEN: kmsToken, CFN_POLICY: policy };
}, 120_000);
afterAll(async () => {
  broker?.close();
  await system?.stop();
  rmSync(cwd, { recursive: true });
});

async function startBroker(kmsUrl: string): Promise<typeof broker> {
  const server = createServer((request, response) => {
    void (async () => {
      if (state.down) return request.socket.destroy();
      const body: Uint8Array[] = [];
      for await (const piece of request) body.push(piece as Uint8Array);
      const { cookie = '' } = request.headers;
      const answer = await fetch(`${kmsUrl}${request.url ?? ''}`, {
        method: request.method ?? 'GET',
        headers: { cookie },
        ...(request.method === 'POST' && { body: Buffer.concat(body) }),
      });
      let text = await answer.text();
      if (answer.ok && request.url?.endsWith('/attest') === true) {
        const signed = new SignJWT({}).setProtectedHeader({ alg: 'HS256' }).setIssuedAt();
        text = JSON.stringify({ token: await signed.setExpirationTime(`${TOKEN_SECONDS}s`).sign(new Uint8Array(32)) });
      }
      state.answered++;
      response.writeHead(answer.status, { 'set-cookie': answer.headers.getSetCookie() }).end(text);
    })().catch(() => request.socket.destroy());
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  const state = { port, answered: 0, down: false, close: () => void server.close() };
  return state;
}

async function said(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runCfn(args, { cwd, env });
  expect({ code, stderr }, args.join(' ')).toMatchObject({ code: 0 });
  return stdout;
}

/** Pushes the model for this broker, as `key/<name>` of demo, and puts its key there. */
async function pushed(name: string): Promise<string> {
  const url = `kbs+http://127.0.0.1:${broker.port}/demo/key/${name}`;
  const args = ['model', 'push', VAD_MODEL, '--name', `demo/${name}@1`, '--kbs', url, '--key-out', `${name}.key`];
  const { digest, kms } = JSON.parse(await said(...args, '--json')) as { digest: string; kms: string };
  expect(kms).toBe(url);
  const file = join(cwd, `${name}.key`);
  expect([statSync(file).mode & 0o777, readFileSync(file).length]).toEqual([0o600, 32]);
  await said('kms', 'resource', 'put', `key/${name}`, '--from', `${name}.key`, '--tee', 'simulated');
  return digest;
}

function engines(): number {
  return processTree(system.local.worker().pid).filter((pid) => {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return args[0]?.endsWith('/node') === true && args.some((arg) => arg.endsWith('runtime/engine/main.ts'));
    } catch {
      return false;
    }
  }).length;
}
const deploy = (name: string, digest: string): Promise<string> =>
  system.deploy(name, SOURCE, { models: [{ binding: 'VAD', model: `demo/${name}@1`, digest }] });

describe('INV-29 a model whose key a broker has', () => {
  test('runs, attests again while the broker says so, and ends when it refuses', async () => {
    const digest = await pushed('brokered');
    expect(await said('kms', 'resource', 'list')).toContain('demo/key/brokered 32 bytes, on simulated, until ');
    await deploy('brokered', digest);
    const called = await system.call('brokered');
    expect([called.status, await called.json()]).toEqual([200, ['output', 'stateN']]);
    const { answered } = broker;
    await new Promise((resolve) => setTimeout(resolve, 2 * TOKEN_SECONDS * 1000)); // two tokens long
    expect(broker.answered).toBeGreaterThan(answered);
    expect((await system.call('brokered')).status).toBe(200);
    const audit = await said('kms', 'audit', 'export');
    expect(audit.split('\n').filter((line) => line.includes('"resource-released"')).length).toBeGreaterThan(1);

    await said('kms', 'resource', 'remove', 'key/brokered');
    await expect.poll(engines, { timeout: 30_000 }).toBe(0);
    const refused = await system.call('brokered');
    expect([refused.status, await problemCode(refused)]).toEqual([403, 'CFN_BROKER_DENIED']);
  }, 120_000);

  test('ends with its token when the broker is gone', async () => {
    await deploy('orphaned', await pushed('orphaned'));
    expect((await system.call('orphaned')).status).toBe(200);
    expect(engines()).toBe(1);
    broker.down = true;
    await expect.poll(engines, { timeout: 30_000 }).toBe(0);
    expect(await problemCode(await system.call('orphaned'))).toBe('CFN_KMS_UNREACHABLE');
    broker.down = false;
    expect((await system.call('orphaned')).status).toBe(200);
    await said('kms', 'resource', 'remove', 'key/orphaned');
    await expect.poll(engines, { timeout: 30_000 }).toBe(0);
  }, 120_000);

  test('does not run on a resource that is no data key, nor on another key', async () => {
    await deploy('mistaken', await pushed('mistaken'));
    writeFileSync(join(cwd, 'other.key'), randomBytes(32));
    await said('kms', 'resource', 'remove', 'key/mistaken');
    await expect.poll(engines, { timeout: 30_000 }).toBe(0);
    for (const [file, code] of [
      [NO_KEY, 'CFN_BROKER_ANSWER'],
      ['other.key', 'CFN_ARTIFACT_ALTERED'],
    ] as const) {
      await said('kms', 'resource', 'put', 'key/mistaken', '--from', file, '--tee', 'simulated');
      expect(await problemCode(await system.call('mistaken'))).toBe(code);
    }
  }, 120_000);
});

/** Any file that is no key. */
const NO_KEY = new URL('../package.json', import.meta.url).pathname;

describe('cfn', () => {
  test.each([
    [['model', 'push', VAD_MODEL, '--name', 'demo/x@1', '--kbs', 'kbs+https://h/a/b/c'], 'CFN_USAGE'],
    [['model', 'push', VAD_MODEL, '--name', 'demo/x@1', '--key-out', 'x.key'], 'CFN_USAGE'],
    [
      ['model', 'push', VAD_MODEL, '--name', 'demo/x@1', '--kbs', 'kbs+http://h.example/a/b/c', '--key-out', 'x.key'],
      'CFN_INPUT_INVALID',
    ],
    [
      ['model', 'push', VAD_MODEL, '--name', 'demo/x@1', '--kbs', 'kbs+https://h/a/b/c', '--key-out', NO_KEY],
      'CFN_USAGE',
    ],
    [['kms', 'resource', 'put', 'key', '--from', NO_KEY], 'CFN_USAGE'],
    [['kms', 'resource', 'put', 'key/x', '--from', 'missing'], 'CFN_USAGE'],
    [['kms', 'resource', 'put', 'key/x', '--from', VAD_MODEL], 'CFN_USAGE'],
    [['kms', 'resource', 'put', 'key/x', '--from', NO_KEY, '--tee', 'sgx'], 'CFN_USAGE'],
    [['kms', 'resource', 'remove', 'key/x'], 'CFN_NOT_FOUND'],
  ])('%j is refused', async (args, code) => {
    const { code: exit, stderr } = await runCfn(args, { cwd, env });
    expect([exit, stderr]).toEqual([2, expect.stringContaining(code)]);
  });
});
