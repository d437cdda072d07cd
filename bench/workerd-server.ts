import { spawn } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';

const { default: workerd } = createRequire(import.meta.url)('workerd') as { default: string }; // has no types

export interface WorkerdServer extends AsyncDisposable {
  readonly pid: number;
  readonly url: string;
}

/** `workerd` with its dynamic loader: a fresh isolate for each request, from the same bundle. */
export async function startWorkerd(bundle: Uint8Array): Promise<WorkerdServer> {
  const dir = mkdtempSync(join(tmpdir(), 'cfn-workerd-'));
  for (const file of ['loader.js', 'config.capnp'])
    copyFileSync(new URL(`workerd/${file}`, import.meta.url), join(dir, file));
  writeFileSync(join(dir, 'bundle.js'), bundle);
  const child = spawn(workerd, ['serve', '--experimental', '--control-fd=3', 'config.capnp'], {
    cwd: dir,
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const listening = new Promise<number>((resolve) =>
    createInterface({ input: child.stdio[3] as Readable }).once('line', (line) =>
      resolve((JSON.parse(line) as { port: number }).port),
    ),
  );
  const port = await Promise.race([
    listening,
    exited.then(() => {
      throw new Error('workerd ended before it listened');
    }),
  ]);
  return {
    pid: child.pid ?? -1,
    url: `http://127.0.0.1:${port}/`,
    async [Symbol.asyncDispose]() {
      child.kill();
      await exited;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
