import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { confidentialFetch } from '../client/index.ts';
import { processTree, searchMemory } from '../deploy/index.ts';
import { problemCode, startTestSystem, type TestSystem } from './local-system.ts';

const ECHO = `export default { async fetch(request) {
  return new Response(await request.arrayBuffer(), { status: 201, headers: { 'x-path': new URL(request.url).pathname } });
} }`;

let system: TestSystem;
beforeAll(async () => {
  system = await startTestSystem();
  await system.deploy('open', ECHO);
  await system.deploy('sealed', ECHO, { caller: { plaintext: false, logs: 'none' } });
});
afterAll(() => system.stop());

describe('a caller', () => {
  test('in open mode gets the answer, told what the gateway could see', async () => {
    const answer = await system.call('open', { method: 'POST', body: 'hello' });
    expect([answer.status, await answer.text(), answer.headers.get('x-path')]).toEqual([201, 'hello', '/']);
    expect(answer.headers.get('cfn-confidentiality')).toBe('gateway-visible');
    expect(answer.headers.get('cfn-tee')).toBe('simulated');
    const receipt = await fetch(
      `${system.local.gatewayUrl}/.well-known/cfn/receipts/${answer.headers.get('cfn-request-id')}`,
    );
    expect(receipt.status).toBe(200);
  });

  test('INV-15 cannot send plaintext to a function whose manifest does not allow it', async () => {
    const answer = await system.call('sealed', { method: 'POST', body: 'hello' });
    expect([answer.status, await problemCode(answer)]).toEqual([403, 'CFN_PLAINTEXT_REFUSED']);
  });

  test('INV-03 seals, and the gateway sees nothing of it: not in memory, not in a log, not in a store', async () => {
    const marker = randomBytes(16).toString('hex');
    const call = await confidentialFetch({
      endpoint: system.local.gatewayUrl,
      function: 'demo/sealed',
      policy: system.policy,
    });
    const answer = await call('/some/path', {
      method: 'POST',
      body: marker.repeat(2_000),
      headers: { 'x-marker': marker },
    });
    expect([answer.status, await answer.text(), answer.headers.get('x-path')]).toEqual([
      201,
      marker.repeat(2_000),
      '/some/path',
    ]);
    const { receipt } = await answer.confidentiality.receipt;
    expect(receipt).toMatchObject({
      outcome: 'ok',
      tee: 'simulated',
      function: { tenant: 'demo', name: 'sealed' },
      response: { status: 201 },
    });

    const patterns = { 'UTF-8': Buffer.from(marker), 'UTF-16': Buffer.from(marker, 'utf16le') };
    for (const service of [system.local.gateway, system.local.kms]) {
      expect(searchMemory(processTree(service.pid), patterns).hits).toEqual([]);
    }
    expect(system.logs.join('\n')).not.toContain(marker);
    for (const file of filesBelow(system.stateDir)) expect(readFileSync(file).includes(marker), file).toBe(false);
  });

  test.each([
    ['an unknown tenant', '/f/nobody/open/', 404, 'CFN_TENANT_NOT_FOUND'],
    ['an unknown function', '/f/demo/nothing/', 404, 'CFN_FUNCTION_NOT_FOUND'],
    ['an unknown path', '/nothing', 404, 'CFN_NOT_FOUND'],
  ])('is told of %s', async (_what, path, status, code) => {
    const answer = await fetch(`${system.local.gatewayUrl}${path}`);
    expect([answer.status, await problemCode(answer)]).toEqual([status, code]);
  });

  test('is told of a body over the limit', async () => {
    const answer = await system.call('open', { method: 'POST', body: new Uint8Array(18 * 1024 * 1024) });
    expect([answer.status, await problemCode(answer)]).toEqual([413, 'CFN_BODY_TOO_LARGE']);
  });
});

describe('an author', () => {
  test('is told of a model that nobody pushed', async () => {
    const models = [{ binding: 'M', model: 'demo/none@1', digest: 'a'.repeat(64) }];
    await expect(system.deploy('modelless', ECHO, { models })).rejects.toThrow('CFN_MODEL_NOT_FOUND');
  });

  test('is told of a bundle that does not evaluate', async () => {
    await expect(system.deploy('broken', 'export default 1 +')).resolves.toMatch(/^[0-9a-f]{64}$/); // stored: the answer names the worker's refusal
    const answer = await system.call('broken');
    expect(await problemCode(answer)).toBe('CFN_FUNCTION_INVALID');
  });
});

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && statSync(join(entry.parentPath, entry.name)).size < 64e6)
    .map((entry) => join(entry.parentPath, entry.name));
}
