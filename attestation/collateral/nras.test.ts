import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CfnError, type ErrorCode } from '../../proto/index.ts';
import { parseNrasAnswer } from '../evidence/nras.ts';
import { judge, madeService, NONCE, NOW } from '../verifier/tokens/nras.fixture.ts';
import { jwksCache, type JwksCacheOptions } from './jwks-cache.ts';
import { requestNras, type NrasRequest, type NrasService } from './nras.ts';

type Handler = (request: IncomingMessage, body: string, response: ServerResponse) => void;

let server: Server;
let url: string;
let handle: Handler;
beforeEach(async () => {
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (part: Buffer) => (body += part.toString()));
    request.on('end', () => handle(request, body, response));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

const failing = (code: ErrorCode) => expect.objectContaining({ code }) as Error;
const request: NrasRequest = {
  device: 'gpu',
  arch: 'HOPPER',
  nonce: NONCE,
  evidence: [{ report: Uint8Array.of(1, 2, 255), certificates: 'PEM' }],
};
const service = (change: Partial<NrasService> = {}): NrasService => ({
  fetch,
  url,
  version: 'v4',
  timeoutMs: 2000,
  ...change,
});

describe('NRAS', () => {
  test.each([
    ['v3', '/v3/attest/gpu', undefined],
    ['v4', '/v4/attest/gpu', '3.0'],
  ] as const)(
    'takes evidence at %s, and answers tokens that verify with its keys',
    async (version, path, claimsVersion) => {
      const made = await madeService('kid-1');
      const answer = await made.answer();
      const requests: { method: string | undefined; path: string | undefined; body: unknown }[] = [];
      handle = ({ method, url: asked, headers }, body, response) => {
        requests.push({ method, path: asked, body: body === '' ? '' : JSON.parse(body) });
        expect(headers.authorization).toBe(asked === path ? 'Bearer key' : undefined);
        response.end(asked === path ? answer : made.jwksText);
      };
      const came = await requestNras(request, service({ version, serviceKey: 'key' }));
      const cache = jwksCache({
        fetch,
        timeoutMs: 2000,
        url: `${url}/.well-known/jwks.json`,
        now: () => NOW,
        keepMs: 1000,
        fetchMsMin: 0,
      });
      const { overall, devices } = parseNrasAnswer(came);
      const jwks = await cache.keysFor([overall.keyId, ...devices.map(({ token }) => token.keyId)]);
      expect((await judge({ answer: came, keys: { kind: 'pinned', jwks }, nonce: NONCE, now: NOW })).failures).toEqual(
        [],
      );
      expect(requests).toEqual([
        {
          method: 'POST',
          path,
          body: {
            nonce: '931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb',
            arch: 'HOPPER',
            ...(claimsVersion === undefined ? {} : { claims_version: claimsVersion }),
            evidence_list: [{ certificate: 'UEVN', evidence: 'AQL/', arch: 'HOPPER' }],
          },
        },
        { method: 'GET', path: '/.well-known/jwks.json', body: '' },
      ]);
    },
  );

  test.each<[string, Handler]>([
    ['another status', (_request, _body, response) => response.writeHead(429).end('[]')],
    ['a redirect', (_request, _body, response) => response.writeHead(302, { location: url }).end()],
    ['no end', (_request, _body, response) => response.end('x'.repeat(2 ** 20 + 1))],
    ['text that is none', (_request, _body, response) => response.end(Buffer.of(0xff))],
    [
      'half an answer',
      (_request, _body, response) =>
        void response.writeHead(200, { 'content-length': '10' }).write('12345', () => response.destroy()),
    ],
    ['no answer in time', () => {}],
  ])('unreachable: %s', async (_, handler) => {
    handle = handler;
    await expect(requestNras(request, service({ timeoutMs: 300 }))).rejects.toThrow(failing('CFN_VENDOR_UNREACHABLE'));
  });

  test('unreachable: nobody listens', async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await expect(requestNras(request, service())).rejects.toThrow(failing('CFN_VENDOR_UNREACHABLE'));
  });
});

describe('the cache of keys', () => {
  const key = (kid: string | undefined, x = 'AA') => ({ kty: 'EC', crv: 'P-384', x, y: 'AA', kid });
  let now: number;
  let fetches: number;
  const publish = (...keys: unknown[]): void => {
    handle = (_request, _body, response) => {
      fetches++;
      response.end(JSON.stringify({ keys }));
    };
  };
  const cacheOf = (change: Partial<JwksCacheOptions> = {}) =>
    jwksCache({ fetch, timeoutMs: 2000, url, now: () => new Date(now), keepMs: 10_000, fetchMsMin: 1000, ...change });
  beforeEach(() => {
    now = NOW.getTime();
    fetches = 0;
  });

  test('keeps a key that has vanished, until its time is over', async () => {
    publish(key('a'), key(undefined));
    const cache = cacheOf();
    expect(await cache.keysFor(['a', 'a', undefined])).toMatchObject([{ kid: 'a' }]);
    publish(key('b'));
    now += 5000;
    expect(await cache.keysFor(['a'])).toHaveLength(1);
    expect(fetches).toBe(1);
    expect(await cache.keysFor(['a', 'b'])).toMatchObject([{ kid: 'a' }, { kid: 'b' }]);
    now += 5001;
    expect(await cache.keysFor(['a', 'b'])).toMatchObject([{ kid: 'b' }]);
    expect(fetches).toBe(3);
  });

  test('invented names cause no storm, and concurrent askers share one fetch', async () => {
    publish(key('a'));
    const cache = cacheOf();
    const answers = await Promise.all(['a', 'x', 'y', 'z'].map((name) => cache.keysFor([name])));
    expect(answers.map(({ length }) => length)).toEqual([1, 0, 0, 0]);
    expect(fetches).toBe(1);
    now += 1000;
    expect(await cache.keysFor(['x'])).toEqual([]);
    expect(fetches).toBe(2);
  });

  test('a name that moves to another key is refused, and the first one stays', async () => {
    publish(key('a'));
    const cache = cacheOf();
    await cache.keysFor(['a']);
    publish(key('a', 'BB'), key('b'));
    now += 1000;
    await expect(cache.keysFor(['b'])).rejects.toMatchObject({ reason: 'evidence/token-kid-unknown' });
    expect(await cache.keysFor(['a', 'b'])).toMatchObject([{ kid: 'a', x: 'AA' }]);
  });

  test('holds 256 keys at most, the oldest going first', async () => {
    publish(...Array.from({ length: 256 }, (_, i) => key(`old-${i}`)));
    const cache = cacheOf({ fetchMsMin: 0 });
    await cache.keysFor(['old-0']);
    publish(key('new'));
    expect(await cache.keysFor(['new', 'old-1'])).toHaveLength(2);
    publish();
    expect(await cache.keysFor(['old-0'])).toEqual([]);
  });

  test('an answer that is no key set, and none at all', async () => {
    handle = (_request, _body, response) => response.end('<html>');
    await expect(cacheOf().keysFor(['a'])).rejects.toMatchObject({ reason: 'parse/json' });
    handle = (_request, _body, response) => response.writeHead(503).end();
    const error = await cacheOf()
      .keysFor(['a'])
      .catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(CfnError);
    expect(error).toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
  });
});
