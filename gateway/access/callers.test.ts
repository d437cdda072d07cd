import { afterAll, beforeAll, expect, test } from 'vitest';
import { utf8 } from '../../proto/index.ts';
import { codeOf, openHouse, type House } from '../testkit.ts';
import { Provider } from './identity-provider.testkit.ts';
import { parseIssuersFile } from './issuers.ts';

/** A whole gateway, and who it takes a caller for by what they bring. */

let provider: Provider;
let house: House;
let acme: string;
beforeAll(async () => {
  provider = await new Provider().start();
  const file = {
    issuers: [
      {
        issuer: provider.url,
        audience: 'cfn',
        algorithms: ['RS256'],
        maxAgeSeconds: 600,
        rules: [
          { when: { groups: 'acme-devs' }, tenant: 'acme', role: 'developer' },
          { when: { groups: 'platform' }, role: 'operator' },
        ],
      },
    ],
  };
  house = await openHouse({ issuers: parseIssuersFile(utf8(JSON.stringify(file))) });
  acme = await house.tenant('acme');
});
afterAll(async () => {
  await house.gateway.stop();
  provider.stop();
});
const get = (path: string, token: string): Promise<Response> => house.call('GET', path, { token });

test('a token of a configured issuer is its holder’s role, for its tenant', async () => {
  const developer = await provider.token();
  expect((await get('/v1/functions', developer)).status).toBe(200);
  expect(await codeOf(await get('/v1/keys', developer))).toBe('403 CFN_TOKEN_SCOPE');
  expect(await codeOf(await get('/v1/functions/other/echo', developer))).toBe('403 CFN_TOKEN_SCOPE');
  expect((await get('/v1/tenants', await provider.token({ groups: ['platform'] }))).status).toBe(200);
  expect(house.logs.filter((line) => line.includes('"audit"')).at(-1)).toContain(`"who":"${provider.url} ada"`);
});

test('a token that gives no role, or says that it is the gateway’s, is nobody’s', async () => {
  for (const claims of [
    { groups: [] },
    { iss: 'cfn-gateway' },
    { iss: 'https://elsewhere.example' },
    { iss: undefined },
  ])
    expect(await codeOf(await get('/v1/functions', await provider.token(claims)))).toBe('401 CFN_TOKEN_INVALID');
});

test('the gateway’s own tokens and keys do while an issuer is down; its tokens say that it is', async () => {
  await provider.rotate('k9');
  provider.answer = (response) => response.destroy();
  const unknown = await openHouse({
    issuers: parseIssuersFile(
      utf8(
        JSON.stringify({
          issuers: [
            {
              issuer: provider.url,
              audience: 'cfn',
              algorithms: ['RS256'],
              maxAgeSeconds: 600,
              rules: [{ when: {}, role: 'operator' }],
            },
          ],
        }),
      ),
    ),
  });
  const reply = await unknown.call('GET', '/v1/tenants', { token: await provider.token() });
  expect(await codeOf(reply)).toBe('503 CFN_ISSUER_UNREACHABLE');
  expect((await unknown.call('GET', '/v1/tenants', { token: unknown.operator })).status).toBe(200);
  expect((await get('/v1/functions', acme)).status).toBe(200);
  await unknown.gateway.stop();
});

test('what is too long, or no token at all, is refused', async () => {
  for (const token of ['x'.repeat(9_000), 'a.b.c', '..', 'cfn_'])
    expect(await codeOf(await get('/v1/functions', token))).toBe('401 CFN_TOKEN_INVALID');
});
