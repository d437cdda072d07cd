import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SubjectAlternativeNameExtension, X509CertificateGenerator } from '@peculiar/x509';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { concatBytes, createResponseDecoder, encodeRequest, utf8, type EgressUse } from '../../../proto/index.ts';
import { openJail } from '../../jail/index.ts';
import { buildSandboxCode } from '../../sandbox/sandbox-code.ts';
import { prepareSandbox, type InvocationEnd, type SandboxProcess } from '../sandbox-process.ts';
import { isPublicAddress } from './address.ts';
import { egressSession, type EgressDeps, type EgressSession } from './session.ts';

const NAMES = ['api.test', 'other.test', 'rebound.test', 'inside.test', 'mixed.test', 'gone.test'];
const MiB = 1024 * 1024;

let socketDir = '';
let server: Server;
let port = 0;
let ca = '';
let sandbox: SandboxProcess;
let allow: string[] = [];
const seen: {
  method: string | undefined;
  url: string | undefined;
  headers: IncomingMessage['headers'];
  body: string;
}[] = [];
/** How often each name was asked for. */
const asked = new Map<string, number>();

/** One server behind all names: the tests tell them apart by Host. */
async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname } = new URL(request.url ?? '', 'https://x');
  if (pathname === '/echo') return void request.pipe(response);
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece as Buffer);
  seen.push({
    method: request.method,
    url: request.url,
    headers: request.headers,
    body: Buffer.concat(pieces).toString(),
  });
  const redirect = (location: string, status = 302): void => void response.writeHead(status, { location }).end();
  switch (pathname) {
    case '/to-other':
      return redirect(`https://other.test:${port}/plain`, 307);
    case '/to-inside':
      return redirect(`https://inside.test:${port}/plain`);
    case '/to-unlisted':
      return redirect('https://evil.test/');
    case '/to-http':
      return redirect(`http://api.test:${port}/`);
    case '/loop':
      return redirect('/loop');
    case '/cut':
      response.writeHead(200, { 'content-length': '1000' }).write('half');
      return void setTimeout(() => request.socket.destroy(), 50);
    case '/slow':
      return; // never
    case '/large': {
      let left = 48;
      const more = (): void => {
        while (left-- > 0) if (!response.write(Buffer.alloc(MiB, 7))) return void response.once('drain', more);
        response.end();
      };
      return more();
    }
    default:
      response.writeHead(200, { 'x-seen': 'yes', 'content-type': 'text/plain' }).end('hello');
  }
}

const deps = (): EgressDeps => ({
  ca,
  isAllowedAddress: (address) => address === '127.0.0.1' || isPublicAddress(address),
  async resolve(host) {
    const times = (asked.get(host) ?? 0) + 1;
    asked.set(host, times);
    if (host === 'inside.test') return [{ address: '10.0.0.1' }];
    if (host === 'mixed.test') return [{ address: '127.0.0.1' }, { address: '169.254.169.254' }];
    if (host === 'rebound.test') return [{ address: times === 1 ? '127.0.0.1' : '10.0.0.1' }];
    if (host === 'gone.test') throw new Error('ENOTFOUND');
    return [{ address: '127.0.0.1' }];
  },
});

beforeAll(async () => {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=test',
    notBefore: new Date(Date.now() - 60_000),
    notAfter: new Date(Date.now() + 3_600_000),
    keys,
    signingAlgorithm: algorithm,
    serialNumber: '01',
    extensions: [new SubjectAlternativeNameExtension(NAMES.map((value) => ({ type: 'dns' as const, value })))],
  });
  const der = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  ca = certificate.toString('pem');
  server = createTlsServer(
    { key: `-----BEGIN PRIVATE KEY-----\n${der}\n-----END PRIVATE KEY-----\n`, cert: ca },
    (request, response) => void answer(request, response).catch(() => response.destroy()),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ({ port } = server.address() as AddressInfo);
  allow = [...NAMES.map((name) => `${name}:${port}`), '127.0.0.1', 'unnamed.test:1'];
  // The request's body is code: each test is a function of its own.
  const bundle = `export default { async fetch(request) {
    const code = await request.text();
    const run = (0, eval)('(async (port, request) => {' + code + '})');
    try { return new Response(String(await run(${port}, request))); }
    catch (error) { return new Response(error.constructor.name + ': ' + error.message); }
  } }`;
  socketDir = mkdtempSync(join(tmpdir(), 'cfn-egress-'));
  const options = { jail: await openJail(), socketDir, stderr: 'inherit' } as const;
  sandbox = await prepareSandbox(await buildSandboxCode(), options).start({
    limits: { cpuMs: 20_000, wallMs: 20_000, memoryMb: 64 },
    vars: {},
    models: [],
    poolSize: 2,
    bundle: utf8(bundle),
  });
});
afterAll(() => {
  sandbox.kill();
  rmSync(socketDir, { recursive: true, force: true });
  server.closeAllConnections();
  server.close();
});

interface Ran {
  readonly text: string;
  readonly egress: EgressUse[];
  readonly end: InvocationEnd;
}
let ids = 0;
async function run(code: string, change: Partial<EgressDeps> = {}): Promise<Ran> {
  const head = { method: 'POST', scheme: 'https', authority: 'gateway', path: '/', headers: [] };
  const pieces: Uint8Array[] = [];
  let session: EgressSession | undefined;
  const end = await sandbox.invoke(
    `call-${++ids}`,
    {
      message: [encodeRequest({ ...head, body: utf8(code) })],
      rest: undefined,
      wallMs: 20_000,
      egress: (reply) => (session = egressSession(allow, { ...deps(), ...change }, reply)),
    },
    async (piece) => void pieces.push(piece),
  );
  const events = pieces.flatMap(
    (
      (decoder) => (piece: Uint8Array) =>
        decoder.push(piece)
    )(createResponseDecoder()),
  );
  const content = events.flatMap((event) => (event.type === 'content' ? [event.bytes] : []));
  return { text: Buffer.from(concatBytes(...content)).toString(), egress: session?.close() ?? [], end };
}
const status = (url: string, init = 'undefined'): string =>
  `const r = await fetch(\`${url}\`, ${init}); return r.status + ' ' + await r.text();`;

describe('a function fetches', () => {
  test('from a host of its manifest: head, body, and what it cost', async () => {
    const { text, egress } = await run(
      `const r = await fetch(\`https://api.test:\${port}/plain?a=1#hash\`, { method: 'POST', body: 'question', headers: { 'x-key': 'k' } });
       return [r.status, r.url.replace(port, ''), r.redirected, r.headers.get('x-seen'), await r.text()].join(' ');`,
    );
    expect(text).toBe('200 https://api.test:/plain?a=1 false yes hello');
    expect(seen.at(-1)).toMatchObject({
      method: 'POST',
      url: '/plain?a=1',
      body: 'question',
      headers: { 'x-key': 'k', host: `api.test:${port}`, 'content-length': '8' },
    });
    expect(egress).toMatchObject([{ host: `api.test:${port}`, calls: 1 }]);
    // Head and body both count: a function could say it all in its URLs.
    expect(egress[0]?.bytesSent).toBeGreaterThan(100);
    expect(egress[0]?.bytesReceived).toBeGreaterThan(50);
  });

  test('bodies stream both ways, larger than its memory', async () => {
    const { text, egress } = await run(
      `let left = 1536;
       const body = new ReadableStream({ type: 'bytes', pull(c) { c.enqueue(new Uint8Array(65536).fill(left % 251)); if (--left === 0) c.close(); } });
       const r = await fetch(\`https://api.test:\${port}/echo\`, { method: 'POST', body, duplex: 'half' });
       let bytes = 0; for await (const piece of r.body) bytes += piece.length;
       return bytes;`,
    );
    expect(text).toBe(String(96 * MiB));
    expect(egress[0]?.bytesSent).toBeGreaterThan(96 * MiB);
    expect(egress[0]?.bytesReceived).toBeGreaterThan(96 * MiB);
  }, 60_000);

  test('and cannot set the fields of the connection', async () => {
    await run(
      status(
        'https://api.test:${port}/plain',
        `{ headers: { host: 'evil.test', connection: 'upgrade', 'transfer-encoding': 'chunked', 'proxy-authorization': 'x', 'content-length': '9', te: 'trailers' } }`,
      ),
    );
    const { headers } = seen.at(-1) ?? { headers: {} };
    expect(headers).toMatchObject({ host: `api.test:${port}` });
    for (const name of ['transfer-encoding', 'proxy-authorization', 'content-length', 'te'])
      expect(headers).not.toHaveProperty(name);
  });

  test('many at once, in turn', async () => {
    const { text, egress } = await run(
      `return (await Promise.all(Array.from({ length: 30 }, () => fetch(\`https://api.test:\${port}/plain\`).then((r) => r.text())))).join('').length;`,
    );
    expect([text, egress[0]?.calls]).toEqual(['150', 30]);
  });
});

describe('INV-18 a fetch is refused with a TypeError', () => {
  test.each([
    [
      'to a host that is not in the manifest',
      'https://evil.test/',
      /evil\.test is not in \[egress\] allow of the function's manifest/,
    ],
    ['to another port of one that is', 'https://api.test/', /api\.test is not in \[egress\] allow/],
    ['to a name that ends like one', 'https://xapi.test:${port}/', /is not in \[egress\] allow/],
    ['without TLS', 'http://api.test:${port}/', /only https/],
    ['of another scheme', 'data:text/plain,x', /only https/],
    ['to a private address', 'https://inside.test:${port}/', /not of the public internet/],
    ['where one of several addresses is private', 'https://mixed.test:${port}/', /not of the public internet/],
    ['to a name that is not there', 'https://gone.test:${port}/', /no address/],
    ['by a redirect to a private address', 'https://api.test:${port}/to-inside', /not of the public internet/],
    ['by a redirect to a host that is not allowed', 'https://api.test:${port}/to-unlisted', /evil\.test is not in/],
    ['by a redirect away from TLS', 'https://api.test:${port}/to-http', /only https/],
    ['after too many redirects', 'https://api.test:${port}/loop', /more than 20 redirects/],
  ])('%s', async (_what, url, reason) => {
    const { text } = await run(status(url));
    expect(text).toMatch(/^TypeError: /);
    expect(text).toMatch(reason);
  });

  test('loopback, unless a test allows it', async () => {
    const { text, egress } = await run(status('https://api.test:${port}/plain'), { isAllowedAddress: isPublicAddress });
    expect(text).toMatch(/^TypeError: .*not of the public internet/);
    expect(egress).toEqual([]);
    expect((await run(status('https://0x7f.1/'), { isAllowedAddress: isPublicAddress })).text).toMatch(
      /not of the public internet/,
    );
  });

  test('when the certificate is not for the name, or not by a trusted root', async () => {
    expect((await run(status('https://api.test:${port}/plain'), { ca: undefined })).text).toMatch(
      /^TypeError: fetch failed: /,
    );
    const { text, egress } = await run(status('https://unnamed.test:${port}/plain'), {
      resolve: async () => [{ address: '127.0.0.1' }],
    });
    expect([text.slice(0, 10), egress]).toEqual(['TypeError:', []]);
    allow.push(`unnamed.test:${port}`);
    expect((await run(status('https://unnamed.test:${port}/plain'))).text).toMatch(/ERR_TLS_CERT_ALTNAME_INVALID/);
  });

  test('when the server does not speak TLS, or is not there', async () => {
    const plain = createServer((_, response) => void response.end('plain'));
    await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve));
    const other = (plain.address() as AddressInfo).port;
    allow.push(`api.test:${other}`);
    expect((await run(status(`https://api.test:${other}/`))).text).toMatch(/^TypeError: /);
    plain.close();
    expect((await run(status(`https://api.test:${other}/`))).text).toMatch(/^TypeError: .*ECONNREFUSED/);
  });
});

describe('what is checked is what is used', () => {
  test('a name is resolved once for a call, and a later answer changes nothing', async () => {
    const { text } = await run(status('https://rebound.test:${port}/plain'));
    expect([text, asked.get('rebound.test')]).toEqual(['200 hello', 1]);
    expect((await run(status('https://rebound.test:${port}/plain'))).text).toMatch(/not of the public internet/);
  });

  test('redirects: followed within the rules, without what was meant for the first host; or given out; or refused', async () => {
    const init = (redirect: string): string =>
      `{ method: 'POST', body: 'again', redirect: '${redirect}', headers: { authorization: 'secret', 'x-other': '1' } }`;
    const { text, egress } = await run(status('https://api.test:${port}/to-other', init('follow')));
    expect(text).toBe('200 hello');
    expect(seen.at(-1)).toMatchObject({ method: 'POST', body: 'again', headers: { 'x-other': '1' } });
    expect(seen.at(-1)?.headers).not.toHaveProperty('authorization');
    expect(egress.map(({ host }) => host)).toEqual([`api.test:${port}`, `other.test:${port}`]);
    expect((await run(status('https://api.test:${port}/to-other', init('manual')))).text).toBe('307 ');
    expect((await run(status('https://api.test:${port}/to-other', init('error')))).text).toMatch(
      /^TypeError: .*redirect/,
    );
  });
});

describe('what breaks off', () => {
  test('a response that is cut is an error of its body', async () => {
    const { text, egress } = await run(status('https://api.test:${port}/cut'));
    expect(text).toBe('TypeError: the body broke off before its end');
    expect(egress).toMatchObject([{ calls: 1 }]); // counted all the same
  });

  test('an aborted fetch rejects with the reason, and its connection is closed', async () => {
    const { text } = await run(
      status('https://api.test:${port}/slow', `{ signal: AbortSignal.timeout(100) }`).replace('const r', 'let r; r'),
    );
    expect(text).toMatch(/^DOMException: |TimeoutError/);
  });

  test('what an invocation leaves open ends with it', async () => {
    await run(
      'void fetch(`https://api.test:${port}/slow`).catch(() => {}); await new Promise((r) => setTimeout(r, 300)); return 1;',
    );
    const connections = (): Promise<number> =>
      new Promise((resolve, reject) =>
        server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
      );
    await expect.poll(connections, { timeout: 5_000 }).toBe(0);
  });

  test('what nobody reads is not fetched beyond the windows', async () => {
    const { egress } = await run(
      'const r = await fetch(`https://api.test:${port}/large`); await new Promise((r) => setTimeout(r, 1500)); return r.status;',
    );
    expect(egress[0]?.bytesReceived).toBeLessThan(24 * MiB);
  });
});
