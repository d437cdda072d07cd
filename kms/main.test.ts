import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startKms } from './test-kms.ts';

let folder: string;
const running = new Set<ChildProcess>();
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'cfn-kms-'));
  writeFileSync(join(folder, 'policy.json'), JSON.stringify((await startKms()).policy));
});
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running.clear();
  rmSync(folder, { recursive: true });
});

const state = (name: string): string => join(folder, 'state', name);

function run(...flags: string[]): { child: ChildProcess; errors: () => string } {
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const child = spawn(process.execPath, [main, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  let text = '';
  child.stderr.on('data', (chunk) => (text += String(chunk)));
  return { child, errors: () => text };
}
const flags = (): string[] => [
  '--state',
  join(folder, 'state'),
  '--listen',
  '127.0.0.1:0',
  '--policy',
  join(folder, 'policy.json'),
];

async function start(): Promise<{ child: ChildProcess; url: string; publicKey: string; errors: () => string }> {
  const { child, errors } = run(...flags());
  if (child.stdout === null) throw new Error('no stdout');
  const lines = createInterface(child.stdout);
  const line: unknown = await Promise.race([once(lines, 'line'), once(child, 'exit')]).then(
    ([first]: unknown[]) => first,
  );
  if (typeof line !== 'string') throw new Error(`did not start: ${errors()}`);
  const ready = JSON.parse(line) as { ready: true; url: string; publicKey: string };
  expect(ready.ready).toBe(true);
  return { child, errors, ...ready };
}
async function refused(...args: string[]): Promise<{ exit: unknown; code: string }> {
  const { child, errors } = run(...args);
  const [exit] = (await once(child, 'close')) as unknown[];
  return { exit, code: (JSON.parse(errors()) as { code: string }).code };
}

describe('kms process', () => {
  test('starts, serves, and keeps keys and owners through a kill', async () => {
    const first = await start();
    expect(await (await fetch(`${first.url}/v1/info`)).json()).toEqual({
      publicKey: first.publicKey,
      auditKey: expect.any(String) as string,
    });
    for (const name of ['root.key', 'admin.token', 'keyring.sqlite'])
      expect(statSync(state(name)).mode & 0o777).toBe(0o600);
    const admin = readFileSync(state('admin.token'), 'utf8');
    const init = {
      method: 'POST',
      headers: { authorization: `Bearer ${admin}` },
      body: JSON.stringify({ name: 'acme' }),
    };
    const made = await fetch(`${first.url}/v1/owners`, init);
    expect(made.status).toBe(201);
    const { token } = (await made.json()) as { token: string };
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');

    const second = await start();
    expect(second.publicKey).toBe(first.publicKey);
    const models = await fetch(`${second.url}/v1/models`, { headers: { authorization: `Bearer ${token}` } });
    expect(await models.json()).toEqual({ models: [] });
    second.child.kill('SIGTERM');
    expect((await once(second.child, 'exit'))[0]).toBe(0);
    const logs = first.errors() + second.errors();
    expect(logs).not.toContain(admin);
    expect(logs).not.toContain(token);
  });

  test('refuses to start with a root key that others can read, or another root key', async () => {
    const first = await start();
    first.child.kill('SIGTERM');
    await once(first.child, 'exit');
    chmodSync(state('root.key'), 0o644);
    expect(await refused(...flags())).toEqual({ exit: 4, code: 'CFN_SECRET_EXPOSED' });
    chmodSync(state('root.key'), 0o600);
    const bytes = readFileSync(state('root.key'));
    bytes[0] = (bytes[0] ?? 0) ^ 1;
    writeFileSync(state('root.key'), bytes);
    expect(await refused(...flags())).toEqual({ exit: 4, code: 'CFN_KEYRING_ALTERED' });
  });

  test('refuses missing flags and a policy that is none', async () => {
    expect(await refused()).toEqual({ exit: 2, code: 'CFN_USAGE' });
    expect(await refused('--unknown')).toEqual({ exit: 2, code: 'CFN_USAGE' });
    writeFileSync(join(folder, 'policy.json'), '{}');
    expect(await refused(...flags())).toEqual({ exit: 2, code: 'CFN_POLICY_INVALID' });
  });
});
