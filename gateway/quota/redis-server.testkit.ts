import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** Why tests that need a Redis server are left out; where `CI` is set they fail instead. */
export const noRedis =
  process.env['CI'] === undefined && spawnSync('redis-server', ['--version']).error !== undefined
    ? 'no redis-server: run scripts/setup-debian.sh'
    : undefined;

export interface RedisServer {
  readonly url: string;
  readonly port: number;
  signal(name: NodeJS.Signals): void;
  stop(): Promise<void>;
}

/** A real Redis, empty, on a port of its own. */
export async function startRedis(port?: number): Promise<RedisServer> {
  const at = port ?? (await freePort());
  const folder = mkdtempSync(join(tmpdir(), 'cfn-redis-'));
  const flags = ['--port', String(at), '--bind', '127.0.0.1', '--save', '', '--dir', folder];
  const child: ChildProcess = spawn('redis-server', flags, { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise<void>((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', () => reject(new Error('redis-server ended')));
    if (child.stdout !== null)
      createInterface(child.stdout).on('line', (line) => line.includes('eady to accept connections') && resolve());
  });
  return {
    url: `redis://127.0.0.1:${at}`,
    port: at,
    signal: (name) => void child.kill(name),
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
