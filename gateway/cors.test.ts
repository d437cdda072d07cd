import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseKeyConfigList } from '../proto/index.ts';
import { codeOf, openHouse, signedFunction, type House } from './testkit.ts';
import type { ThrowawayWorker } from './worker.testkit.ts';

let house: House;
let worker: ThrowawayWorker;
beforeAll(async () => {
  house = await openHouse();
  worker = await house.worker({
    run: async ({ method }) => ({
      status: 200,
      body: [],
      headers: [
        ['x-method', method],
        ['access-control-allow-origin', 'https://its.own'],
      ],
    }),
  });
  const token = await house.tenant('acme');
  await house.call('POST', '/v1/workers', { token: house.operator, body: { address: worker.address } });
  await house.deploy(token, await signedFunction());
  await house.deploy(token, await signedFunction({ name: 'closed', caller: { plaintext: false, logs: 'none' } }));
});
afterAll(async () => {
  worker.kill();
  await house.gateway.stop();
});

const ORIGIN = 'https://page.example';
const preflight = (path: string, method: string, fields: string): Promise<Response> =>
  house.call('OPTIONS', path, {
    headers: {
      origin: ORIGIN,
      'access-control-request-method': method,
      'access-control-request-headers': fields,
    },
  });
const allowed = ({ headers }: Response): string | null => headers.get('access-control-allow-origin');

test('pages of any origin may attest, and send sealed requests, without credentials', async () => {
  const sealed = await preflight('/f/acme/closed/', 'POST', 'cfn-worker,content-type,incremental');
  expect([sealed.status, allowed(sealed)]).toEqual([204, '*']);
  expect(sealed.headers.get('access-control-allow-headers')).toBe(
    'accept, cfn-authorization, cfn-function-version, cfn-worker, content-type, incremental',
  );
  expect(sealed.headers.has('access-control-allow-credentials')).toBe(false);
  expect(sealed.headers.get('access-control-allow-headers')).not.toMatch(/(^|[ ,])authorization/);

  const attested = await house.call('GET', '/.well-known/cfn/attestation?function=acme/echo', {
    headers: { origin: ORIGIN },
  });
  expect([attested.status, allowed(attested)]).toEqual([200, '*']);
  expect((await preflight('/.well-known/cfn/attestation', 'GET', 'x')).status).toBe(204);
});

test('a page can read why a sealed request was refused', async () => {
  const refused = await house.call('POST', '/f/acme/closed/', {
    headers: { origin: ORIGIN, 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': '0'.repeat(64) },
    body: 'x',
  });
  expect(allowed(refused)).toBe('*');
  const problem = (await refused.json()) as { type: string };
  expect([refused.status, problem.type]).toEqual([422, 'https://iana.org/assignments/http-problem-types#ohttp-key']);
  const unknown = await house.call('GET', '/.well-known/cfn/attestation?function=acme/none');
  expect([await codeOf(unknown), allowed(unknown)]).toEqual(['404 CFN_FUNCTION_NOT_FOUND', '*']);
});

test('in the open the function alone allows origins, and the control plane allows none', async () => {
  const asked = await preflight('/f/acme/echo/', 'POST', 'content-type');
  expect([asked.headers.get('x-method'), allowed(asked)]).toEqual(['OPTIONS', 'https://its.own']);
  const closed = await preflight('/f/acme/closed/', 'POST', 'content-type');
  expect([await codeOf(closed), allowed(closed)]).toEqual(['403 CFN_PLAINTEXT_REFUSED', null]);
  const plain = await house.call('POST', '/f/acme/closed/', { headers: { origin: ORIGIN }, body: 'x' });
  expect([plain.status, allowed(plain)]).toEqual([403, null]);
  const control = await preflight('/v1/workers', 'POST', 'authorization');
  expect([control.status, allowed(control)]).toEqual([404, null]);
});

test("a worker's key configurations, as a list of OHTTP", async () => {
  const listed = await house.call('GET', `/.well-known/ohttp-gateway?worker=${worker.workerId}`);
  expect(listed.headers.get('content-type')).toBe('application/ohttp-keys');
  expect(parseKeyConfigList(new Uint8Array(await listed.arrayBuffer())).map(({ kem }) => kem)).toEqual([0x0020]);
  expect(await codeOf(await house.call('GET', `/.well-known/ohttp-gateway?worker=${'0'.repeat(64)}`))).toBe(
    '404 CFN_NOT_FOUND',
  );
  expect(await codeOf(await house.call('GET', '/.well-known/ohttp-gateway'))).toBe('400 CFN_INPUT_INVALID');
});
