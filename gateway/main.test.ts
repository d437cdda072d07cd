import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { openSimulatedPlatform, simulatedPolicy } from '../attestation/insecure/index.ts';
import { MRTD, temporaryFolder } from './testkit.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));
const POLICY = join(temporaryFolder(), 'policy.json');
writeFileSync(
  POLICY,
  JSON.stringify(await simulatedPolicy(await openSimulatedPlatform(temporaryFolder()), { mrtd: MRTD })),
);

function start(
  ...flags: string[]
): ChildProcess & { readonly stdout: NodeJS.ReadableStream; readonly stderr: NodeJS.ReadableStream } {
  return spawn(process.execPath, [MAIN, '--listen', '127.0.0.1:0', ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
  }) as never;
}

test('says when it is ready, serves, and stops cleanly', async () => {
  const folder = temporaryFolder();
  const child = start('--state', join(folder, 'state'), '--policy', POLICY, '--worker', '127.0.0.1:1');
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const ready = JSON.parse(line) as { ready: boolean; url: string; admin: string };
  expect(ready).toEqual({ ready: true, url: expect.stringMatching(/^http:/), admin: expect.stringMatching(/^http:/) });
  expect((await fetch(`${ready.url}/v1/openapi.json`)).status).toBe(200);
  expect(await (await fetch(`${ready.admin}/readyz`)).json()).toEqual({ ready: true, workers: 0 });
  child.kill('SIGTERM');
  expect(await once(child, 'exit')).toEqual([0, null]);
});

const NEEDED = ['--state', temporaryFolder(), '--policy', MAIN];
test.each<[string, string[], string]>([
  ['without flags', [], 'CFN_USAGE'],
  ['with an unknown flag', ['--nonsense'], 'CFN_USAGE'],
  [
    'with issuers that are none',
    ['--state', temporaryFolder(), '--policy', POLICY, '--issuers', MAIN],
    'CFN_INPUT_INVALID',
  ],
  ['with a collector that is no URL', [...NEEDED, '--trace-url', 'collector:4318'], 'CFN_USAGE'],
  ['with more than all traces', [...NEEDED, '--trace-ratio', '2'], 'CFN_USAGE'],
  ['with a policy that is none', ['--state', temporaryFolder(), '--policy', MAIN], 'CFN_POLICY_INVALID'],
])('%s it does not start', async (_, flags, code) => {
  const child = start(...flags);
  const [line] = (await once(createInterface(child.stderr), 'line')) as [string];
  expect(JSON.parse(line)).toMatchObject({ event: 'gateway.failed', code });
  expect(await once(child, 'exit')).toEqual([2, null]);
});

test('on an address that is taken it does not start, and says so', async () => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const child = start('--state', temporaryFolder(), '--policy', POLICY, '--listen', `127.0.0.1:${port}`);
  const [line] = (await once(createInterface(child.stderr), 'line')) as [string];
  expect(JSON.parse(line)).toMatchObject({
    event: 'gateway.failed',
    code: 'CFN_USAGE',
    detail: expect.stringContaining(`${port}`),
  });
  expect(await once(child, 'exit')).toEqual([2, null]);
  taken.close();
});
