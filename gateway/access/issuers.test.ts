import { createHmac } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { utf8 } from '../../proto/index.ts';
import { ISSUER_FETCH, ISSUER_SKEW_SECONDS } from '../limits.ts';
import { nowSeconds, Provider } from './identity-provider.testkit.ts';
import { issuers, parseIssuersFile, type Issuers } from './issuers.ts';

const invalid = { code: 'CFN_TOKEN_INVALID' };
const unreachable = { code: 'CFN_ISSUER_UNREACHABLE' };
let provider: Provider;
let elapsedMs = 0;
beforeEach(async () => {
  provider = await new Provider().start();
  elapsedMs = 0;
});
afterEach(() => provider.stop());

const file = (change: Record<string, unknown> = {}): unknown => ({
  issuers: [
    {
      issuer: provider.url,
      audience: 'cfn',
      algorithms: ['RS256'],
      maxAgeSeconds: 600,
      rules: [
        { when: { groups: 'acme-devs' }, tenant: 'acme', role: 'developer' },
        { when: { groups: 'everybody' }, tenant: { claim: 'org' }, role: 'viewer' },
        { when: { groups: 'platform', amr: 'mfa' }, role: 'operator' },
      ],
      ...change,
    },
  ],
});
const open = (change: Record<string, unknown> = {}, cooldownMs = 0): Issuers =>
  issuers(parseIssuersFile(utf8(JSON.stringify(file(change)))), {
    now: () => new Date(),
    monotonicMs: () => performance.now() + elapsedMs,
    fetch,
    cooldownMs,
  });

describe('who a token says that calls', () => {
  test('is told by the first rule that fits, with the subject as the issuer names it', async () => {
    const known = open();
    expect(await known.verify(await provider.token())).toEqual({
      role: 'developer',
      tenant: 'acme',
      sub: `${provider.url} ada`,
    });
    expect(await known.verify(await provider.token({ groups: 'everybody' }))).toMatchObject({
      role: 'viewer',
      tenant: 'zoo',
    });
    expect(await known.verify(await provider.token({ groups: ['platform'], amr: ['pwd', 'mfa'] }))).toMatchObject({
      role: 'operator',
    });
    expect(await known.verify(await provider.token({ groups: ['everybody', 'acme-devs'] }))).toMatchObject({
      tenant: 'acme',
    });
  });

  test.each<[string, Record<string, unknown>]>([
    ['no group', { groups: undefined }],
    ['a group that no rule names', { groups: ['acme'] }],
    ['claims that look like ours', { groups: [], role: 'operator', tenant: 'acme' }],
    ['half of what the operator’s rule asks for', { groups: ['platform'] }],
    ['no claim to name the tenant', { groups: ['everybody'], org: undefined }],
    ['a claim that is no tenant’s name', { groups: ['everybody'], org: '../acme' }],
    ['several tenants in the claim', { groups: ['everybody'], org: ['acme', 'zoo'] }],
    ['a group in a larger text', { groups: 'acme-devs,platform' }],
  ])('is nobody with %s', async (_, claims) => {
    await expect(open().verify(await provider.token(claims))).rejects.toMatchObject(invalid);
  });

  test('a claim for the tenant gives the role of its rule: never another, never operator', async () => {
    const caller = await open().verify(await provider.token({ groups: ['everybody'], org: 'operator', role: 'owner' }));
    expect(caller).toMatchObject({ role: 'viewer', tenant: 'operator' });
  });

  test('is not ours to say for an issuer that is not in the file', async () => {
    expect(await open().verify(await provider.token({ iss: 'https://elsewhere.example' }))).toBeUndefined();
    expect(await open().verify('no.jwt.here')).toBeUndefined();
  });

  test('keys are found by a given URL as well', async () => {
    const known = open({ jwksUri: `${provider.url}/keys` });
    await known.verify(await provider.token());
    expect(provider.fetched).toBe(1);
  });
});

describe('refused is a token', () => {
  test.each<[string, () => Record<string, unknown>]>([
    ['for another audience', () => ({ aud: 'other' })],
    ['that has expired', () => ({ iat: nowSeconds - 100, exp: nowSeconds - ISSUER_SKEW_SECONDS - 30 })],
    ['that is not valid yet', () => ({ nbf: nowSeconds + ISSUER_SKEW_SECONDS + 60 })],
    ['issued in the future', () => ({ iat: nowSeconds + ISSUER_SKEW_SECONDS + 60 })],
    ['older than is allowed, whatever its end', () => ({ iat: nowSeconds - 700, exp: nowSeconds + 1e6 })],
    ['without an end', () => ({ exp: undefined })],
    ['without a time of issue', () => ({ iat: undefined })],
    ['without a subject', () => ({ sub: undefined })],
  ])('%s', async (_, claims) => {
    await expect(open().verify(await provider.token(claims()))).rejects.toMatchObject(invalid);
  });

  test('with alg none', async () => {
    const token = new UnsecuredJWT(provider.claims()).encode();
    await expect(open().verify(token)).rejects.toMatchObject(invalid);
  });

  test('with the public key taken for a shared secret', async () => {
    const { publicKey } = provider.keys.get('k1') ?? (await generateKeyPair('RS256'));
    const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
    const signed = `${part({ alg: 'HS256', kid: 'k1' })}.${part(provider.claims())}`;
    const mac = createHmac('sha256', await exportSPKI(publicKey))
      .update(signed)
      .digest('base64url');
    await expect(open().verify(`${signed}.${mac}`)).rejects.toMatchObject(invalid);
  });

  test('under an algorithm that the file does not list', async () => {
    await expect(open({ algorithms: ['ES256'] }).verify(await provider.token())).rejects.toMatchObject(invalid);
  });

  test('that was altered, or signed by another’s key under the same key id', async () => {
    const known = open();
    const [header, payload, signature] = (await provider.token()).split('.');
    const altered = Buffer.from(JSON.stringify({ ...provider.claims(), groups: ['platform'], amr: 'mfa' })).toString(
      'base64url',
    );
    await expect(known.verify(`${header}.${altered}.${signature}`)).rejects.toMatchObject(invalid);
    expect(payload).not.toBe(altered);
    const { privateKey } = await generateKeyPair('RS256');
    const forged = await new SignJWT(provider.claims())
      .setProtectedHeader({ alg: 'RS256', kid: 'k1' })
      .sign(privateKey);
    await expect(known.verify(forged)).rejects.toMatchObject(invalid);
  });

  test('with a key id that the issuer does not have; it is asked no more often than it may be', async () => {
    const known = open({}, 60_000);
    await known.verify(await provider.token());
    const { fetched } = provider;
    const { privateKey } = await generateKeyPair('RS256');
    for (let i = 0; i < 20; i++) {
      const token = await new SignJWT(provider.claims())
        .setProtectedHeader({ alg: 'RS256', kid: `x${i}` })
        .sign(privateKey);
      await expect(known.verify(token)).rejects.toMatchObject(invalid);
    }
    expect(provider.fetched).toBe(fetched);
  });
});

describe('keys', () => {
  test('that were rotated are fetched, and the old are refused', async () => {
    const known = open();
    const old = await provider.token();
    await known.verify(old);
    await provider.rotate('k2');
    expect(await known.verify(await provider.token())).toMatchObject({ tenant: 'acme' });
    await expect(known.verify(old)).rejects.toMatchObject(invalid);
  });

  test('that are known do while the issuer is down; unknown ones let nobody in', async () => {
    const known = open();
    const token = await provider.token();
    await known.verify(token);
    provider.answer = (response) => response.writeHead(500).end();
    expect(await known.verify(token)).toMatchObject({ tenant: 'acme' });
    await provider.rotate('k2');
    await expect(known.verify(await provider.token())).rejects.toMatchObject(unreachable);
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ['is down', (response) => void response.destroy()],
    ['says that it is busy', (response) => void response.writeHead(503).end()],
    ['answers with something else', (response) => void response.end('<html>')],
  ])('of an issuer that %s are asked for again after a while, and not before', async (_, answer) => {
    const known = open({}, 60_000);
    provider.answer = answer;
    for (let i = 0; i < 5; i++) await expect(known.verify(await provider.token())).rejects.toMatchObject(unreachable);
    expect(provider.fetched).toBe(1);
    provider.answer = undefined;
    elapsedMs = 60_000;
    expect(await known.verify(await provider.token())).toMatchObject({ tenant: 'acme' });
  });

  test.each<[string, (response: ServerResponse) => void]>([
    ['are too many bytes', (response) => void response.end('x'.repeat(ISSUER_FETCH.bytes + 1))],
    ['are no JSON', (response) => void response.end('<html>')],
    ['are somewhere else', (response) => void response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end()],
    [
      'are of an issuer of another name',
      (response) => void response.end(JSON.stringify({ issuer: 'https://x.example', jwks_uri: 'https://x.example/k' })),
    ],
  ])('that %s are none', async (_, answer) => {
    provider.answer = answer;
    await expect(open().verify(await provider.token())).rejects.toMatchObject(unreachable);
  });
});

test.each<[string, unknown]>([
  ['an algorithm with a shared secret', () => file({ algorithms: ['HS256'] })],
  ['none', () => file({ algorithms: ['none'] })],
  ['no algorithm', () => file({ algorithms: [] })],
  ['an issuer without TLS', () => file({ issuer: 'http://id.example.com' })],
  ['keys without TLS', () => file({ jwksUri: 'http://id.example.com/keys' })],
  ['an operator of a tenant', () => file({ rules: [{ when: { a: 'b' }, role: 'operator', tenant: 'acme' }] })],
  ['a developer of none', () => file({ rules: [{ when: { a: 'b' }, role: 'developer' }] })],
  ['a worker', () => file({ rules: [{ when: { a: 'b' }, role: 'worker' }] })],
  ['an unknown key', () => file({ audiences: ['x'] })],
  ['an issuer twice', () => ({ issuers: [file(), file()].flatMap((one) => (one as { issuers: unknown[] }).issuers) })],
])('a file with %s is refused', (_, make) => {
  const text = JSON.stringify((make as () => unknown)());
  expect(() => parseIssuersFile(utf8(text))).toThrowError(
    expect.objectContaining({ code: 'CFN_INPUT_INVALID' }) as Error,
  );
});
