import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { utf8 } from '../proto/index.ts';
import { openTransitRootKey } from './root-key-transit.ts';
import { rootKeyContract } from './root-key.contract.ts';
import type { RootKeyDeps } from './root-key.ts';
import { startTransit, type Transit } from './transit.testkit.ts';

const deps = (token: string | undefined, mayMake = true): RootKeyDeps => ({
  mayMake,
  randomBytes,
  fetch,
  credential: () => (token === undefined ? undefined : Buffer.from(token)),
});

describe('a root key in a transit service', () => {
  rootKeyContract(async () => {
    const transit = await startTransit();
    return {
      open: (mayMake) => openTransitRootKey(transit.url('cfn-root'), deps(transit.token, mayMake)),
      openOther: () => openTransitRootKey(transit.url('another'), deps(transit.token)),
      outage: { begin: () => transit.stop(), end: () => transit.start() },
      close: () => transit.stop(),
    };
  });

  let transit: Transit;
  beforeEach(async () => {
    transit = await startTransit();
  });
  afterEach(() => transit.stop());

  test('the token is in no error, whatever happens', async () => {
    const said: string[] = [];
    for (const answer of [403, 400, 500, 'nonsense', 'huge'] as const) {
      const root = await openTransitRootKey(transit.url('cfn-root'), deps(transit.token));
      transit.answerWith(answer);
      await root
        .wrap(utf8('the secret itself'), utf8('c'))
        .catch((error: Error) => said.push(`${error.message} ${String(error.cause)}`));
      transit.answerWith(undefined);
    }
    expect(said).toHaveLength(5);
    expect(said.join()).not.toContain(transit.token);
    expect(said.join()).not.toContain(Buffer.from('the secret itself').toString('base64').slice(0, 8));
  });

  test.each([
    ['a token that may not', 403, 'CFN_ROOT_KEY_REFUSED'],
    ['a sealed service', 503, 'CFN_ROOT_KEY_UNREACHABLE'],
    ['too many calls', 429, 'CFN_ROOT_KEY_UNREACHABLE'],
    ['an answer that is none', 'nonsense', 'CFN_ROOT_KEY_UNREACHABLE'],
    ['an answer without end', 'huge', 'CFN_ROOT_KEY_UNREACHABLE'],
    ['a redirection elsewhere', 307, 'CFN_ROOT_KEY_UNREACHABLE'],
  ] as const)('fails closed on %s, and goes on afterwards', async (_, answer, code) => {
    const root = await openTransitRootKey(transit.url('cfn-root'), deps(transit.token));
    const wrapped = await root.wrap(utf8('secret'), utf8('c'));
    transit.answerWith(answer);
    await expect(root.unwrap(wrapped, utf8('c'))).rejects.toMatchObject({ code });
    transit.answerWith(undefined);
    expect(String(await root.unwrap(wrapped, utf8('c')))).toBe('secret');
  });

  test('takes a new token without a restart', async () => {
    let token = 'old';
    const credential = (): Buffer => Buffer.from(token);
    await expect(openTransitRootKey(transit.url('k'), { ...deps(''), credential })).rejects.toMatchObject({
      code: 'CFN_ROOT_KEY_REFUSED',
    });
    token = transit.token;
    const root = await openTransitRootKey(transit.url('k'), { ...deps(''), credential });
    token = 'expired';
    await expect(root.version()).rejects.toMatchObject({ code: 'CFN_ROOT_KEY_REFUSED' });
    token = transit.token;
    expect(await root.version()).toBe(1);
  });

  test.each([{ exportable: true }, { allow_plaintext_backup: true }])('refuses a key with %o', async (flags) => {
    await transit.makeKey('loose', flags);
    await expect(openTransitRootKey(transit.url('loose'), deps(transit.token))).rejects.toMatchObject({
      code: 'CFN_SECRET_EXPOSED',
    });
  });

  test('refuses a key that does not authenticate', async () => {
    await transit.makeKey('rsa', { type: 'rsa-4096' });
    await expect(openTransitRootKey(transit.url('rsa'), deps(transit.token))).rejects.toMatchObject({
      code: 'CFN_USAGE',
    });
  });

  test.each([
    'http://vault.example:8200/v1/transit/keys/k',
    'https://vault.example:8200/v1/transit/encrypt/k',
    'https://user:pass@vault.example/v1/transit/keys/k',
    'ftp://127.0.0.1/v1/transit/keys/k',
    'nothing',
  ])('refuses %s as a URL', async (url) => {
    await expect(openTransitRootKey(url, deps('t'))).rejects.toMatchObject({ code: 'CFN_USAGE' });
  });
});
