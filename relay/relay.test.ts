import { once } from 'node:events';
import {
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startRelay, type RunningRelay } from './service.ts';

/** A gateway that answers as a test says, and remembers what it saw. */
let gateway: Server;
let authority: string;
let relay: RunningRelay;
const logs: string[] = [];
const seen: { method: string; url: string; rawHeaders: string[]; address: string; body: Buffer }[] = [];
const echo = (request: IncomingMessage, response: ServerResponse): void => {
  response.writeHead(200, { 'content-type': 'message/ohttp-chunked-res' });
  request.pipe(response);
};
let answer = echo;

beforeAll(async () => {
  gateway = createServer((request, response) => {
    const pieces: Buffer[] = [];
    request.on('data', (piece: Buffer) => pieces.push(piece));
    const { method = '', url = '', rawHeaders, socket } = request;
    const it = { method, url, rawHeaders, address: socket.remoteAddress ?? '', body: Buffer.alloc(0) };
    seen.push(it);
    request.on('end', () => (it.body = Buffer.concat(pieces)));
    answer(request, response);
  });
  gateway.listen(0, '127.0.0.1');
  await once(gateway, 'listening');
  authority = `127.0.0.1:${(gateway.address() as AddressInfo).port}`;
  relay = await startRelay({
    host: '127.0.0.1',
    port: 0,
    to: [`http://${authority}`, 'http://127.0.0.1:9'],
    log: (event, fields) => void logs.push(JSON.stringify({ event, ...fields })),
  });
});
afterAll(async () => {
  await relay.stop();
  gateway.closeAllConnections();
  gateway.close();
});
afterEach(() => {
  seen.length = 0;
  answer = echo;
});

const SEALED = { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': 'a'.repeat(64) };
const post = (path: string, headers: Record<string, string> = SEALED): Promise<Response> =>
  fetch(`${relay.url}/${authority}${path}`, { method: 'POST', headers, body: 'sealed bytes' });
const codeOf = async (response: Response): Promise<string> => {
  const { code } = (await response.json()) as { code: string };
  return `${response.status} ${code}`;
};
/** Sends bytes as they are, and gives the first line of the answer. */
async function raw(text: string): Promise<string> {
  const { hostname, port } = new URL(relay.url);
  const socket = connect(Number(port), hostname);
  socket.end(text);
  const pieces: Buffer[] = [];
  for await (const piece of socket) pieces.push(piece as Buffer);
  return Buffer.concat(pieces).toString().split('\r\n', 1)[0] ?? '';
}

describe('INV-38 what the gateway sees', () => {
  test('of a caller: neither its address nor what it says of itself', async () => {
    const own = {
      cookie: 'session=1',
      authorization: 'Bearer token',
      'user-agent': 'Mine/1.0',
      'x-forwarded-for': '203.0.113.9',
      forwarded: 'for=203.0.113.9',
      'accept-language': 'tlh',
      referer: 'https://page.example/secret',
    };
    const { hostname, port } = new URL(relay.url);
    const caller = httpRequest({
      hostname,
      port,
      localAddress: '127.0.0.77',
      method: 'POST',
      path: `/${authority}/f/acme/echo/`,
      headers: { ...own, ...SEALED, incremental: '?1', accept: 'message/ohttp-chunked-res', 'content-length': 12 },
    });
    caller.end('sealed bytes');
    const [response] = (await once(caller, 'response')) as [IncomingMessage];
    expect(response.socket.localAddress).toBe('127.0.0.77');
    for await (const piece of response) expect((piece as Buffer).toString()).toBe('sealed bytes');
    const [it] = seen;
    expect([it?.method, it?.url, it?.address]).toEqual(['POST', '/f/acme/echo/', '127.0.0.1']);
    const fields = Object.fromEntries(
      (it?.rawHeaders ?? []).flatMap((name, at, all) => (at % 2 === 0 ? [[name.toLowerCase(), all[at + 1]]] : [])),
    );
    expect(fields).toEqual({
      ...SEALED,
      incremental: '?1',
      accept: 'message/ohttp-chunked-res',
      'content-length': '12',
      host: authority,
      connection: 'keep-alive',
    });
    expect(logs.join('')).not.toContain('127.0.0.77');
  });
  test('of callers: one connection', async () => {
    const ports = new Set<number | undefined>();
    answer = (request, response) => {
      ports.add(request.socket.remotePort);
      echo(request, response);
    };
    for (let i = 0; i < 3; i++) await (await post('/f/acme/echo/')).text();
    expect(ports.size).toBe(1);
  });
  test('and the caller sees of its answer what it needs', async () => {
    answer = (_, response) => {
      const own = { 'set-cookie': 'track=1', server: 'x', 'retry-after': '3', 'cfn-request-id': '1' };
      response.writeHead(503, { 'content-type': 'application/problem+json', ...own });
      response.end('{}');
    };
    const { status, headers } = await post('/f/acme/echo/');
    expect([status, headers.get('retry-after'), headers.get('cfn-request-id')]).toEqual([503, '3', '1']);
    expect([headers.get('set-cookie'), headers.get('server')]).toEqual([null, null]);
  });
});

describe('INV-38 what is not forwarded', () => {
  test.each([
    ['another gateway', '/gateway.example/f/acme/echo/', '404 CFN_NOT_FOUND'],
    ['no gateway', '/f/acme/echo/', '404 CFN_NOT_FOUND'],
    ['a gateway with a user', '/x@AUTHORITY/f/acme/echo/', '404 CFN_NOT_FOUND'],
    ['the control plane', '/AUTHORITY/v1/tenants', '404 CFN_NOT_FOUND'],
    ['a way out of the path', '/AUTHORITY/f/acme/..%2f..%2fv1%2ftenants/', '404 CFN_NOT_FOUND'],
    ['a path that the function would see', '/AUTHORITY/f/acme/echo/secret', '404 CFN_NOT_FOUND'],
    ['a query', '/AUTHORITY/f/acme/echo/?secret', '404 CFN_NOT_FOUND'],
  ])('%s', async (_, path, expected) => {
    const url = `${relay.url}${path.replace('AUTHORITY', authority)}`;
    expect(await codeOf(await fetch(url, { method: 'POST', headers: SEALED, body: 'x' }))).toBe(expected);
    expect(seen).toEqual([]);
  });
  test('what is not sealed, and other methods', async () => {
    expect(await codeOf(await post('/f/acme/echo/', { 'content-type': 'text/plain' }))).toBe(
      '403 CFN_PLAINTEXT_REFUSED',
    );
    for (const method of ['GET', 'PUT', 'DELETE'])
      expect(await codeOf(await fetch(`${relay.url}/${authority}/f/acme/echo/`, { method }))).toBe('404 CFN_NOT_FOUND');
    expect(seen).toEqual([]);
  });
  test('other reads, however they are written', async () => {
    for (const path of [
      'cfn/../../v1/tenants',
      'cfn/%2e%2e/%2e%2e/v1/tenants',
      'cfn/attestation/../../../v1/x',
      'other',
      'cfn/',
    ])
      expect(
        await raw(`GET /${authority}/.well-known/${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`),
      ).toMatch(/ 404 /);
    expect(seen).toEqual([]);
  });
  test('as an open proxy it does not work', async () => {
    expect(
      await raw(`GET http://${authority}/.well-known/cfn/attestation HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`),
    ).toMatch(/ 404 /);
    expect(await raw(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`)).toBe('');
    expect(seen).toEqual([]);
  });
  test('a request whose length is said twice, or a giant head', async () => {
    const start = `POST /${authority}/f/acme/echo/ HTTP/1.1\r\nHost: x\r\nContent-Type: message/ohttp-chunked-req\r\n`;
    expect(await raw(`${start}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`)).toMatch(/ 400 /);
    expect(await raw(`${start}X: ${'x'.repeat(10_000)}\r\n\r\n`)).toMatch(/ 431 /);
    expect(seen).toEqual([]);
  });
});

test('what a caller reads before it seals, and preflights', async () => {
  answer = (_, response) => response.end('{}');
  const path = '/.well-known/cfn/attestation?function=acme%2Fecho';
  const read = await fetch(`${relay.url}/${authority}${path}`);
  expect([read.status, read.headers.get('access-control-allow-origin'), seen[0]?.url]).toEqual([200, '*', path]);
  const preflight = await fetch(`${relay.url}/${authority}/f/acme/echo/`, { method: 'OPTIONS' });
  expect([preflight.status, preflight.headers.get('access-control-allow-headers')]).toEqual([
    204,
    'accept, cfn-authorization, cfn-function-version, cfn-worker, content-length, content-type, incremental',
  ]);
  expect(seen).toHaveLength(1);
});

test('both ways at once: an answer comes back while the request is still being sent', async () => {
  const { hostname, port } = new URL(relay.url);
  const path = `/${authority}/f/acme/echo/`;
  const caller = httpRequest({ hostname, port, method: 'POST', path, headers: SEALED });
  caller.write('first');
  const [response] = (await once(caller, 'response')) as [IncomingMessage];
  const got: string[] = [];
  for await (const piece of response) {
    got.push(String(piece));
    if (got.length === 1) caller.end('second');
  }
  expect(got).toEqual(['first', 'second']);
});

test('a caller who goes, goes at the gateway, too; an answer that breaks off, breaks off', async () => {
  let closed = false;
  answer = (request, response) => {
    response.writeHead(200);
    response.write('begun');
    response.once('close', () => (closed = true));
    request.resume();
  };
  const abort = new AbortController();
  const response = await fetch(`${relay.url}/${authority}/f/acme/echo/`, {
    method: 'POST',
    headers: SEALED,
    body: 'x',
    signal: abort.signal,
  });
  await response.body?.getReader().read();
  abort.abort();
  await expect.poll(() => closed, { timeout: 10_000 }).toBe(true);

  answer = (_, sink) => {
    sink.writeHead(200, { 'content-length': '100' });
    sink.write('begun', () => sink.destroy());
  };
  await expect(post('/f/acme/echo/').then((it) => it.text())).rejects.toThrow();
});

test('a gateway that is away is said to be', async () => {
  const reply = await fetch(`${relay.url}/127.0.0.1:9/f/acme/echo/`, { method: 'POST', headers: SEALED, body: 'x' });
  expect(await codeOf(reply)).toBe('503 CFN_GATEWAY_UNREACHABLE');
  expect(logs).toContain('{"event":"gateway.unreachable","gateway":"127.0.0.1:9"}');
});

test('what is no origin is refused at the start', async () => {
  for (const to of [
    'gateway.example',
    'ftp://gateway.example',
    'https://gateway.example/path',
    'https://u@gateway.example',
  ])
    await expect(startRelay({ host: '127.0.0.1', port: 0, to: [to], log: () => undefined })).rejects.toMatchObject({
      code: 'CFN_USAGE',
    });
});
