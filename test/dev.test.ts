import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { runCfn } from '../cli/testkit.ts';
import { root } from './local-system.ts';

let cwd: string;
let dev: ChildProcess | undefined;
beforeEach(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'cfn-dev-test-'));
});
afterEach(async () => {
  if (dev?.exitCode === null) {
    dev.kill('SIGTERM');
    await once(dev, 'close');
  }
  await rm(cwd, { recursive: true });
});

test('cfn dev: deployed and found from the project’s folder, deployed again on a change, nothing left behind', async () => {
  await runCfn(['init', 'greeter'], { cwd });
  const project = join(cwd, 'greeter');
  const env = { ...process.env, HOME: cwd };
  const child = spawn(process.execPath, [join(root, 'cli/main.ts'), 'dev', 'greeter', '--port', '0', '--json'], {
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  dev = child;
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const ready = JSON.parse(line) as { url: string; policy: string };
  expect(ready).toMatchObject({ ready: true, simulated: true, tenant: 'demo', name: 'greeter' });

  const call = async (): Promise<string> => (await runCfn(['invoke', 'demo/greeter'], { cwd: project })).stdout;
  expect(await call()).toBe('Hello, world!\n');
  expect(await (await fetch(ready.url)).text()).toBe('Hello, world!\n');

  const source = join(project, 'src/index.ts');
  await writeFile(source, (await readFile(source, 'utf8')).replace('!', '?'));
  await expect.poll(call, { timeout: 20_000, interval: 500 }).toBe('Hello, world?\n');

  // A secret for development; never in the manifest, nor in the project's sources.
  await writeFile(join(project, '.dev.vars'), 'PASSWORD=Moin\n');
  await writeFile(
    source,
    'export default { fetch: (_: Request, env: { PASSWORD?: string }) => new Response(env.PASSWORD ?? "none") };',
  );
  const config = join(project, 'wrangler-style.toml');
  await writeFile(config, `${await readFile(config, 'utf8')}\n[secrets]\nrequired = ["PASSWORD"]\n`);
  await expect.poll(call, { timeout: 20_000, interval: 500 }).toBe('Moin');
  await writeFile(join(project, '.dev.vars'), 'PASSWORD=Servus\n');
  await expect.poll(call, { timeout: 20_000, interval: 500 }).toBe('Servus');

  child.kill('SIGTERM');
  expect(await once(child, 'close')).toEqual([0, null]);
  expect(existsSync(join(project, '.cfn/config.json'))).toBe(false);
  expect(existsSync(ready.policy)).toBe(false);
  await expect(fetch(ready.url)).rejects.toThrow();
}, 90_000);

test('cfn dev: a port that is taken is named, and nothing is left behind', async () => {
  await runCfn(['init', 'greeter'], { cwd });
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const { code, stderr } = await runCfn(['dev', 'greeter', '--port', `${port}`], { cwd });
  expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(`already in use 127.0.0.1:${port}`) });
  taken.close();
});
