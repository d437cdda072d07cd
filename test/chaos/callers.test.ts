import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startFleet, WALL_MS, type Fleet } from './fleet.ts';
import { faultsOf, sleep, startTraffic, type Outcome } from './traffic.ts';

const MiB = 1024 * 1024;
let fleet: Fleet;
beforeAll(async () => {
  fleet = await startFleet({ workers: 1, leaseMs: 30_000 }); // a worker that is kept busy may answer late
});
afterAll(() => fleet[Symbol.asyncDispose]());

const gateway = (): URL => new URL(fleet.gateways.at(-1)?.url ?? '');
async function open(): Promise<Socket> {
  const socket = connect({ port: Number(gateway().port), host: gateway().hostname });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}
/** All that the gateway says on a connection, until it closes it or the time is over. */
async function say(bytes: string, ms = 2_000): Promise<string> {
  const socket = await open();
  let said = '';
  socket.on('data', (piece: Buffer) => (said += piece.toString('latin1')));
  socket.write(bytes, 'latin1');
  await Promise.race([new Promise((resolve) => socket.once('close', resolve)), sleep(ms)]);
  socket.destroy();
  return said;
}
const statusesOf = (said: string): number[] =>
  [...said.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, code]) => Number(code));
const pathsReached = (): string[] => fleet.workers.flatMap((worker) => worker.reached().map(({ path }) => path));
const resident = (): number => {
  const status = readFileSync(`/proc/${fleet.gateways.at(-1)?.process.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
};
/** Traffic beside it. */
async function beside(work: () => Promise<void>): Promise<readonly Outcome[]> {
  const traffic = startTraffic(fleet);
  await work();
  await traffic.more(5);
  const outcomes = await traffic.stop();
  expect(faultsOf(outcomes)).toEqual([]);
  expect(outcomes.filter(({ result }) => result !== 'ok')).toEqual([]);
  return outcomes;
}

describe('callers that misbehave do no harm to others', { timeout: 120_000 }, () => {
  test('fifty that read slowly: memory stays bounded', async () => {
    const before = resident();
    await beside(async () => {
      const slow = await Promise.all(
        Array.from({ length: 50 }, async () => {
          const socket = await open();
          socket.write('GET /f/acme/echo/?large=8000000 HTTP/1.1\r\nhost: x\r\n\r\n');
          await once(socket, 'readable');
          socket.read(1);
          return socket;
        }),
      );
      await sleep(5_000);
      // Windows of HTTP/2 and queues, each a MiB or so.
      expect(resident() - before).toBeLessThan(50 * 4 * MiB + 64 * MiB);
      for (const socket of slow) socket.destroy();
    });
  });

  test('10,000 that say nothing: they cost little, and are sent away', async () => {
    const before = resident();
    await beside(async () => {
      const idle: Socket[] = [];
      // Read from, so that they learn of their end.
      const silent = async (): Promise<Socket> => (await open()).resume();
      for (let i = 0; i < 100; i++) idle.push(...(await Promise.all(Array.from({ length: 100 }, silent))));
      await sleep(500);
      expect(idle.length).toBe(10_000);
      expect(resident() - before).toBeLessThan(10_000 * 40 * 1024);
      await expect
        .poll(() => idle.filter(({ destroyed, readableEnded }) => !destroyed && !readableEnded).length, {
          timeout: 60_000,
        })
        .toBe(0);
    });
  });

  test('heads and bodies that stop half way end in time', async () => {
    await beside(async () => {
      const began = performance.now();
      const said = await Promise.all([
        say('POST /f/acme/echo/ HTTP/1.1\r\nhost: x\r\ncontent-le', 40_000),
        say('POST /f/acme/echo/ HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf', 40_000),
        say('POST /f/acme/echo/ HTTP/1.1\r\nhost: x\r\ncontent-length: 3000000\r\n\r\nhalf', 40_000),
        say('POST /f/acme/echo/ HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n', 40_000),
      ]);
      expect(said.map(statusesOf)).toEqual([[408], [504], [504], [504]]);
      expect(performance.now() - began).toBeLessThan(30_000 + WALL_MS);
    });
  });

  test('giant heads are refused', async () => {
    const many = Array.from({ length: 3_000 }, (_, i) => `x${i}: y\r\n`).join('');
    await beside(async () => {
      for (const head of [
        `GET /f/acme/echo/giant HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`,
        `GET /f/acme/echo/giant${'y'.repeat(100_000)} HTTP/1.1\r\nhost: x\r\n\r\n`,
        `GET /f/acme/echo/giant HTTP/1.1\r\nhost: x\r\n${many}\r\n`,
      ]) {
        const said = await say(head);
        // The rest of the head, unread, can take the answer with it when the connection closes.
        if (said !== '') expect(statusesOf(said)).toEqual([431]);
      }
      await sleep(200);
      expect(pathsReached().filter((path) => path.includes('giant'))).toEqual([]);
    });
  });

  const INNER = 'GET /f/acme/echo/smuggled HTTP/1.1\r\nhost: x\r\n\r\n';
  test.each([
    ['two lengths', `content-length: 0\r\ncontent-length: ${INNER.length}\r\n\r\n`],
    ['a length and chunks', `content-length: ${INNER.length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`],
    ['a signed length', `content-length: +0\r\n\r\n`],
    ['a length list', `content-length: 0, ${INNER.length}\r\n\r\n`],
    ['an unknown encoding', `transfer-encoding: xchunked\r\n\r\n`],
    ['chunked twice', `transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n`],
    ['a space before the colon', `content-length : 0\r\n\r\n`],
    ['a folded field', `x: y\r\n content-length: 0\r\ntransfer-encoding: chunked\r\n\r\n`],
    ['a bare carriage return', `x: y\rcontent-length: 0\r\n\r\n`],
    ['a bad chunk size', `transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n`],
    ['a bare line feed in a chunk', `transfer-encoding: chunked\r\n\r\n0\n\r\n`],
  ])('nothing is smuggled behind %s', async (_, rest) => {
    const said = statusesOf(await say(`POST /f/acme/echo/outer HTTP/1.1\r\nhost: x\r\n${rest}${INNER}`, 1_500));
    expect(said[0]).toBe(400);
    expect(said.length).toBe(1);
    expect(pathsReached().filter((path) => path.includes('smuggled'))).toEqual([]);
  });

  test('a function cannot split the answer of the next, nor a caller the head that a function sees', async () => {
    const said = await say('GET /f/acme/echo/a%0d%0ax-injected:%20y HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
    expect(said).not.toMatch(/^x-injected/m);
    expect(statusesOf(said)).toEqual([200]);
  });
});
