import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, connect as tcpConnect, type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'redis';

const REDIS = '/usr/bin/redis-server';
/** With CI set, a machine without Redis is an error: scripts/setup-debian.sh installs it. */
export const redisMissing = !existsSync(REDIS) && process.env['CI'] === undefined;

export interface RedisServer {
  readonly url: string;
  readonly port: number;
  /** SIGKILL. What was acknowledged is in the append-only file. */
  kill(): Promise<void>;
  /** Starts again on the same port; with `empty`, as after the loss of its disk. */
  start(options?: { readonly empty?: boolean }): Promise<void>;
  freeze(): void;
  thaw(): void;
  stop(): Promise<void>;
}

/** A real Redis of its own on a free port, with an append-only file in a folder of its own. */
export async function redisServer(flags: readonly string[] = []): Promise<RedisServer> {
  const port = await freePort();
  const url = `redis://127.0.0.1:${port}`;
  let folder = mkdtempSync(join(tmpdir(), 'cfn-redis-'));
  let child: ChildProcess | undefined;

  async function kill(): Promise<void> {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child?.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }
  const server: RedisServer = {
    url,
    port,
    kill,
    async start({ empty = false } = {}) {
      if (empty) {
        rmSync(folder, { recursive: true, force: true });
        folder = mkdtempSync(join(tmpdir(), 'cfn-redis-'));
      }
      child = spawn(
        REDIS,
        [
          '--port',
          `${port}`,
          '--bind',
          '127.0.0.1',
          '--dir',
          folder,
          '--save',
          '',
          '--appendonly',
          'yes',
          '--appendfsync',
          'always',
          ...flags,
        ],
        { stdio: 'ignore' },
      );
      await answering(url);
    },
    freeze: () => void child?.kill('SIGSTOP'),
    thaw: () => void child?.kill('SIGCONT'),
    async stop() {
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  await server.start();
  return server;
}

async function answering(url: string): Promise<void> {
  for (let i = 0; ; i++) {
    const client = createClient({ url, RESP: 2, socket: { reconnectStrategy: false } });
    client.on('error', () => {});
    try {
      await client.connect();
      if ((await client.ping()) === 'PONG') return;
    } catch (cause) {
      if (i >= 200) throw cause;
      await sleep(25);
    } finally {
      client.destroy();
    }
  }
}

export interface Proxy {
  readonly port: number;
  /** Holds up every piece, each way, by so many ms. */
  delay(ms: number): void;
  /** Breaks what is connected; `closed` connects nobody until it is opened again. */
  cut(closed: boolean): void;
  stop(): void;
}

/** A TCP proxy: a slow or broken network in front of a server. */
export async function proxyTo(target: number): Promise<Proxy> {
  let delayMs = 0;
  let closed = false;
  const sockets = new Set<Socket>();
  const server = createServer((inner) => {
    if (closed) return void inner.destroy();
    const outer = tcpConnect(target, '127.0.0.1');
    for (const [from, to] of [
      [inner, outer],
      [outer, inner],
    ] as const) {
      sockets.add(from);
      from.on('data', (bytes) => void setTimeout(() => to.write(bytes), delayMs));
      from.on('error', () => {});
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const cut = (): void => sockets.forEach((socket) => socket.destroy());
  return {
    port: (server.address() as AddressInfo).port,
    delay: (ms) => void (delayMs = ms),
    cut(shut) {
      closed = shut;
      cut();
    },
    stop() {
      server.close();
      cut();
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
