import { SignJWT } from 'jose';
import { expect, test } from 'vitest';
import type { Caller } from './access/roles.ts';
import { tokens } from './tokens.ts';

const secret = new Uint8Array(48).fill(7);
const now = () => new Date('2026-11-01T00:00:00Z');
const issuer = tokens(secret, now);
const acme: Caller = { role: 'owner', sub: 'acme', tenant: 'acme' };
type Row = [
  string,
  (jwt: SignJWT) => SignJWT,
  Uint8Array,
  (Record<string, unknown> | undefined)?,
  { alg: string; typ: string }?,
];
const invalid = { code: 'CFN_TOKEN_INVALID' };

function forged(
  change: (jwt: SignJWT) => SignJWT,
  claims: Record<string, unknown> = { role: 'operator' },
  header = { alg: 'HS256', typ: 'JWT' },
): SignJWT {
  const base = new SignJWT(claims).setProtectedHeader(header).setSubject('x');
  return change(
    base
      .setIssuer('cfn-gateway')
      .setAudience('cfn-control')
      .setExpirationTime(Date.parse('2026-11-02') / 1000),
  );
}

test('gives back the caller it issued for', async () => {
  expect(await issuer.verify(await issuer.issue(acme, 60))).toEqual(acme);
  expect(await issuer.verify(await forged((jwt) => jwt).sign(secret))).toEqual({ role: 'operator', sub: 'x' });
});

test('refuses an expired token', async () => {
  const token = await issuer.issue(acme, 60);
  const later = tokens(secret, () => new Date('2026-11-01T00:01:01Z'));
  await expect(later.verify(token)).rejects.toMatchObject(invalid);
});

const forgeries: Row[] = [
  ['another secret', (jwt) => jwt, new Uint8Array(32).fill(8)],
  ['another issuer', (jwt) => jwt.setIssuer('other'), secret],
  ['another audience', (jwt) => jwt.setAudience('other'), secret],
  ['another algorithm', (jwt) => jwt, secret, undefined, { alg: 'HS384', typ: 'JWT' }],
  ['another type', (jwt) => jwt, secret, undefined, { alg: 'HS256', typ: 'at+jwt' }],
  ['an unknown role', (jwt) => jwt, secret, { role: 'root' }],
  ['a tenant role without a tenant', (jwt) => jwt, secret, { role: 'tenant' }],
  ['a role of a tenant without one', (jwt) => jwt, secret, { role: 'invoker' }],
];
test.each(forgeries)('refuses %s', async (_, change, key, claims, header) => {
  const token = await forged(change, claims, header).sign(key);
  await expect(issuer.verify(token)).rejects.toMatchObject(invalid);
});

test('refuses an unsigned token', async () => {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const claims = { role: 'operator', sub: 'x', iss: 'cfn-gateway', aud: 'cfn-control', exp: 4e9 };
  await expect(issuer.verify(`${part({ alg: 'none', typ: 'JWT' })}.${part(claims)}.`)).rejects.toMatchObject(invalid);
});

test('a token from before there were roles is its tenant’s owner', async () => {
  const token = await forged((jwt) => jwt, { role: 'tenant', tenant: 'acme' }).sign(secret);
  expect(await issuer.verify(token)).toEqual({ role: 'owner', sub: 'x', tenant: 'acme' });
});
