import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parseIntelCollateral, writeIntelCollateral } from '../evidence/intel-collateral.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import { Findings } from '../verifier/findings.ts';
import { verifyTdx } from '../verifier/intel/verify.ts';
import { intelRoutes, recordedMember, type IntelRoute } from '../testing/intel-service.testkit.ts';
import { intelCollateral, type IntelCollateralOptions } from './intel.ts';

const read = (name: string) => readFileSync(new URL(`../vectors/tdx/${name}`, import.meta.url));
const text = read('collateral/b0c06f-2025-06.json').toString();

const quote = parseTdxQuote(new Uint8Array(read('quotes/v4-phala-b0c06f.bin')));
const foreign = parseTdxQuote(new Uint8Array(read('quotes/v5-go-tdx-guest-90c06f.bin')));
const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

let served: Record<string, IntelRoute>;
let handler: Handler;
let asked: string[];
let now: Date;
const server = createServer((request, response) => {
  asked.push(request.url ?? '');
  handler(request, response);
});
const serve: Handler = (request, response) => {
  const route = served[request.url ?? ''];
  if (route === undefined) response.writeHead(404).end();
  else response.writeHead(200, route.headers ?? {}).end(route.body);
};
const fail: Handler = (_request, response) => void response.writeHead(500).end();

beforeAll(() => new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve)));
afterAll(() => void server.close());
beforeEach(() => {
  served = intelRoutes();
  handler = serve;
  asked = [];
  now = new Date('2025-06-25T00:00:00Z');
});
const open = (changed: Partial<IntelCollateralOptions> = {}) => {
  const { port } = server.address() as AddressInfo;
  return intelCollateral({ fetch, timeoutMs: 2000, now: () => now, url: `http://127.0.0.1:${port}`, ...changed });
};
const later = (ms: number) => void (now = new Date(now.getTime() + ms));

describe('intelCollateral', () => {
  test('gives a document that verifies, the same as the recorded one', async () => {
    const document = writeIntelCollateral(await open()(quote));
    expect(parseIntelCollateral(document)).toEqual(parseIntelCollateral(text));
    const findings = new Findings();
    await verifyTdx({ quote, collateral: document, now }, findings);
    expect(findings.failures).toEqual([]);
    expect(asked.toSorted()).toEqual(Object.keys(intelRoutes()).toSorted());
  });

  test('keeps it for a day, asks once for callers at the same time, and then again', async () => {
    const get = open();
    await Promise.all([get(quote), get(quote), get(quote)]);
    expect(asked).toHaveLength(4);
    later(DAY - 1);
    await get(quote);
    expect(asked).toHaveLength(4);
    later(1);
    await get(quote);
    expect(asked).toHaveLength(8);
  });

  test('a service that fails: what is kept counts on to its end, and not a moment longer', async () => {
    const get = open();
    const document = await get(quote);
    handler = fail;
    later(DAY);
    expect(await get(quote)).toBe(document);
    expect(asked).toHaveLength(8);
    later(MINUTE - 1);
    await get(quote);
    expect(asked).toHaveLength(8); // not asked again at once
    now = new Date('2025-07-19T10:01:00Z'); // the PCK CRL has just ended
    await expect(get(quote)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
  });

  test('never gives out what has ended, though the service still does', async () => {
    now = new Date('2025-07-19T09:00:00Z');
    const get = open();
    await get(quote);
    later(2 * 60 * MINUTE);
    await expect(get(quote)).rejects.toMatchObject({ reason: 'revocation/stale' });
  });

  test.each<[string, string, Partial<IntelRoute>, string | undefined]>([
    ['no chain', '/tdx/certification/v4/qe/identity', { headers: {} }, undefined],
    [
      'a chain that is not URL-encoded',
      '/tdx/certification/v4/qe/identity',
      { headers: { 'SGX-Enclave-Identity-Issuer-Chain': '%zz' } },
      undefined,
    ],
    [
      'an altered TCB info',
      '/tdx/certification/v4/tcb?fmspc=B0C06F000000',
      { body: altered() },
      'collateral/tcb-info-signature',
    ],
    ['a CRL that is none', '/sgx/certification/v4/rootcacrl', { body: '00' }, undefined],
    ['an empty CRL', '/sgx/certification/v4/rootcacrl', { body: '' }, 'revocation/missing'],
    ['another CRL', '/sgx/certification/v4/rootcacrl', { body: recordedMember('pck_crl') }, 'revocation/wrong-issuer'],
  ])('refuses %s, and keeps nothing of it', async (_name, path, changed, reason) => {
    const get = open();
    served[path] = { ...(served[path] as IntelRoute), ...changed };
    await expect(get(quote)).rejects.toMatchObject(
      reason === undefined ? { code: 'CFN_VENDOR_UNREACHABLE' } : { reason },
    );
    served = intelRoutes();
    await get(quote);
  });

  test('refuses collateral of another platform', async () => {
    served['/tdx/certification/v4/tcb?fmspc=90C06F000000'] = served[
      '/tdx/certification/v4/tcb?fmspc=B0C06F000000'
    ] as IntelRoute;
    await expect(open()(foreign)).rejects.toMatchObject({ reason: 'collateral/fmspc-mismatch' });
  });

  test('refuses a service that does not know the platform, is silent, or says too much', async () => {
    const code = { code: 'CFN_VENDOR_UNREACHABLE' };
    await expect(open()(foreign)).rejects.toMatchObject(code);
    handler = () => undefined;
    await expect(open({ timeoutMs: 50 })(quote)).rejects.toMatchObject(code);
    handler = (_request, response) => void response.writeHead(200).end(Buffer.alloc(2 * 1024 * 1024));
    await expect(open()(quote)).rejects.toMatchObject(code);
  });

  test("asks Intel for the root's CRL when nothing else is configured", async () => {
    const urls: string[] = [];
    const recording: typeof fetch = (url) => (
      urls.push(typeof url === 'string' ? url : ''),
      Promise.reject(new Error('offline'))
    );
    const get = intelCollateral({ fetch: recording, timeoutMs: 10, now: () => now });
    await expect(get(quote)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
    expect(urls).toContain('https://certificates.trustedservices.intel.com/IntelSGXRootCA.der');
    expect(urls).toContain('https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=B0C06F000000');
  });
});

function altered(): string {
  return `{"tcbInfo":${recordedMember('tcb_info').replace('17', '18')},"signature":"${recordedMember('tcb_info_signature')}"}`;
}
