import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseCrl } from '../evidence/crl.ts';
import { parseSnpReport } from '../evidence/snp.ts';
import { parseCertificate } from '../evidence/x509.ts';
import { verifySnpReport } from '../verifier/amd/verify.ts';
import { readVector } from '../verifier/amd/vectors.fixture.ts';
import { Findings } from '../verifier/findings.ts';
import { amdKds } from './amd.ts';

const MILAN_CHIP =
  'c38427a30d4c7af9d96f7a15b97269825a64cb76a2352ffd5d18115d89ad473f8e8c0bcd9a5d9286612bad4aadfb4426205a3b9e4fea82301135a170e477524e';
const MILAN_VCEK = `/vcek/v1/Milan/${MILAN_CHIP}?blSPL=3&teeSPL=0&snpSPL=8&ucodeSPL=115`;
const GENOA_CHIP =
  'b1e24a27bbc3a4d58090d8b89851dce3b8031544be249b9ac17132bb222b027622347ee4d0fe4f689efdfc47a68cefc686cbb448d01436506ee1e28010cab7c0';
const FILES: Readonly<Record<string, string>> = {
  [MILAN_VCEK]: 'certs/milan-v2-trustee.vcek.der',
  '/vcek/v1/Milan/cert_chain': 'chains/ask_ark_milan.pem',
  '/vcek/v1/Milan/crl': 'crls/milan.crl.der',
  '/vlek/v1/Milan/cert_chain': 'chains/ask_ark_milan_vlek.pem',
  '/vlek/v1/Milan/crl': 'crls/milan.crl.der',
  [`/vcek/v1/Genoa/${GENOA_CHIP}?blSPL=10&teeSPL=0&snpSPL=23&ucodeSPL=84`]: 'certs/genoa-v3-msft.vcek.der',
  '/vcek/v1/Genoa/cert_chain': 'chains/ask_ark_genoa.pem',
  '/vcek/v1/Genoa/crl': 'crls/genoa.crl.der',
};
const milan = parseSnpReport(readVector('reports/milan-v2-trustee.bin'));
const genoa = parseSnpReport(readVector('reports/genoa-v3-msft.bin'));
const DAY_MS = 24 * 60 * 60_000;

/** A stand-in for AMD's service on the loopback interface, which answers from the recorded vectors. */
let asked: string[];
let respond: (url: string, response: ServerResponse) => boolean;
let url: string;
let now: Date;
let server: ReturnType<typeof createServer>;

beforeEach(async () => {
  asked = [];
  respond = () => false;
  now = new Date('2025-10-01T00:00:00Z');
  server = createServer((request: IncomingMessage, response) => {
    const path = request.url ?? '';
    asked.push(path);
    if (respond(path, response)) return;
    const file = FILES[path];
    if (file === undefined) response.writeHead(404).end();
    else response.end(readVector(file));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server's address is one
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

const open = (timeoutMs = 5000) => amdKds({ fetch, timeoutMs, now: () => now, url });

test('fetches what makes a report verifiable, once', async () => {
  const kds = open();
  const { certificates, crls } = await kds(milan);
  const findings = new Findings();
  const evidence = {
    report: readVector('reports/milan-v2-trustee.bin'),
    certificates: certificates.map((der) => parseCertificate(der)),
    crls: crls.map(parseCrl),
  };
  await verifySnpReport({ ...evidence, revocation: 'required', now }, findings);
  expect(findings.failures).toEqual([]);
  await kds(milan);
  expect(asked).toEqual(['/vcek/v1/Milan/cert_chain', MILAN_VCEK, '/vcek/v1/Milan/crl']);
});

test('asks one question once, however many wait for the answer', async () => {
  const kds = open();
  await Promise.all([kds(milan), kds(milan), kds(milan)]);
  expect(asked).toHaveLength(3);
});

test('tries the older products for a report that does not name its own', async () => {
  const unnamed = { ...genoa, product: undefined };
  now = new Date('2026-03-01T00:00:00Z');
  // The recorded CRL of Genoa had ended when this chip's certificate was made.
  await expect(open()(unnamed)).rejects.toMatchObject({ reason: 'revocation/stale' });
  expect(asked.map((path) => path.split('/')[3])).toEqual(['Milan', 'Milan', 'Genoa', 'Genoa', 'Genoa']);
  const unknown = { ...unnamed, chipId: new Uint8Array(64).fill(1) };
  await expect(open()(unknown)).rejects.toMatchObject({ reason: 'collateral/missing' });
});

test("fetches a VLEK's authorities, and not the VLEK", async () => {
  const vlek = parseSnpReport(readVector('reports/milan-v3-vlek-trustee.bin'));
  expect((await open()(vlek)).certificates).toHaveLength(2);
  expect(asked).toEqual(['/vlek/v1/Milan/cert_chain', '/vlek/v1/Milan/crl']);
});

describe('a report that comes with its certificate', () => {
  const vcek = readVector('certs/milan-v2-trustee.vcek.der');

  test('has the authorities and the CRL fetched alone', async () => {
    expect((await open()(milan, [vcek])).certificates).toHaveLength(2);
    expect(asked).toEqual(['/vcek/v1/Milan/cert_chain', '/vcek/v1/Milan/crl']);
    await open()(genoa, [vcek]).catch(() => undefined); // of another chip: as if none had come
    expect(asked.some((path) => path.includes(GENOA_CHIP))).toBe(true);
  });

  test('goes on without what the service does not give', async () => {
    respond = (path, response) => path.endsWith('/crl') && response.writeHead(500).end() !== undefined;
    expect(await open()(milan, [vcek])).toMatchObject({ certificates: { length: 2 }, crls: [] });
    respond = (_, response) => response.writeHead(429).end() !== undefined;
    expect(await open()(milan, [vcek])).toEqual({ certificates: [], crls: [] });
  });
});

test('asks for so many chips a minute and no more; what it has is given', async () => {
  const kds = open();
  await kds(milan);
  const of = (chip: number) => kds({ ...milan, product: 'Milan', chipId: new Uint8Array(64).fill(chip) });
  for (let chip = 1; chip <= 40; chip++)
    await expect(of(chip)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
  const leaves = (): number => asked.filter((path) => path.includes('?')).length;
  expect(leaves()).toBe(20);
  expect((await kds(milan)).certificates).toHaveLength(3);
  now = new Date(now.getTime() + 60_000);
  for (let chip = 1; chip <= 40; chip++) await of(chip).catch(() => undefined);
  expect(leaves()).toBe(30);
});

test('asks for no chip whose id is masked', async () => {
  const masked = { ...genoa, chipId: new Uint8Array(64) };
  await expect(open()(masked)).rejects.toMatchObject({ reason: 'collateral/missing' });
  await expect(open()({ ...genoa, signer: 'none' })).rejects.toMatchObject({ reason: 'collateral/missing' });
  expect(asked).toEqual([]);
});

test('renews authorities and CRL after a day, and keeps what it has when that fails', async () => {
  const kds = open();
  await kds(milan);
  now = new Date(now.getTime() + DAY_MS);
  await kds(milan);
  expect(asked.slice(3)).toEqual(['/vcek/v1/Milan/cert_chain', '/vcek/v1/Milan/crl']);
  respond = (_, response) => response.writeHead(500).end() !== undefined;
  now = new Date(now.getTime() + DAY_MS);
  expect((await kds(milan)).certificates).toHaveLength(3);
  now = new Date('2026-06-01T00:00:00Z'); // the CRL has ended
  await expect(kds(milan)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
});

describe('when the service asks to wait', () => {
  test.each([
    ['in seconds', '30', 30_000],
    ['as a date', 'Wed, 01 Oct 2025 00:00:30 GMT', 30_000],
    ['without a time', undefined, 10_000],
    ['in nonsense', 'soon', 10_000],
    ['for a century', '3155760000', 60 * 60_000],
  ])('it is left alone: %s', async (_, retryAfter, pauseMs) => {
    const kds = open();
    respond = (_path, response) =>
      response.writeHead(429, retryAfter === undefined ? {} : { 'retry-after': retryAfter }).end() !== undefined;
    await expect(kds(milan)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
    respond = () => false;
    const begin = now.getTime();
    now = new Date(begin + pauseMs - 1);
    await expect(kds(milan)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
    await expect(kds(genoa)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
    expect(asked).toHaveLength(1);
    now = new Date(begin + pauseMs);
    expect((await kds(milan)).crls).toHaveLength(1);
  });
});

describe('refuses', () => {
  test('the certificate of another chip, and keeps nothing of it', async () => {
    const kds = open();
    respond = (path, response) =>
      path === MILAN_VCEK && response.end(readVector('certs/milan-v2-goguest.vcek.der')) !== undefined;
    await expect(kds(milan)).rejects.toMatchObject({ reason: 'collateral/wrong-id' });
    respond = () => false;
    expect((await kds(milan)).certificates).toHaveLength(3);
  });

  test.each<[string, string, () => Uint8Array, string]>([
    [
      "another product's authorities",
      '/vcek/v1/Milan/cert_chain',
      () => readVector('chains/ask_ark_genoa.pem'),
      'certificate/untrusted-root',
    ],
    [
      'a certificate that AMD did not sign',
      MILAN_VCEK,
      () => altered('certs/milan-v2-trustee.vcek.der'),
      'broken-link',
    ],
    ['a CRL that AMD did not sign', '/vcek/v1/Milan/crl', () => altered('crls/milan.crl.der'), 'revocation/signature'],
    ["another product's CRL", '/vcek/v1/Milan/crl', () => readVector('crls/genoa.crl.der'), 'revocation/wrong-issuer'],
  ])('%s, and keeps nothing of it', async (_name, at, answer, reason) => {
    const kds = open();
    respond = (path, response) => path === at && response.end(answer()) !== undefined;
    await expect(kds(milan)).rejects.toMatchObject({ reason: expect.stringContaining(reason) as string });
    respond = () => false;
    expect((await kds(milan)).certificates).toHaveLength(3);
  });

  test('a CRL that has ended, though the service still gives it', async () => {
    now = new Date('2027-06-01T00:00:00Z');
    await expect(open()(milan)).rejects.toMatchObject({ reason: 'revocation/stale' });
  });

  test('what is no certificate, no chain and no CRL', async () => {
    for (const path of [MILAN_VCEK, '/vcek/v1/Milan/cert_chain', '/vcek/v1/Milan/crl']) {
      respond = (asking, response) => asking === path && response.end('<html>busy</html>') !== undefined;
      await expect(open()(milan), path).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
    }
  });

  test('a redirect, a flood, and silence', async () => {
    respond = (_, response) => response.writeHead(302, { location: 'http://127.0.0.1:1/' }).end() !== undefined;
    await expect(open()(milan)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
    respond = (_, response) => response.end(new Uint8Array(70_000)) !== undefined;
    await expect(open()(milan)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
    respond = () => true;
    await expect(open(50)(milan)).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
    server.closeAllConnections();
  });
});

/** The last bit of the signature. */
function altered(file: string): Uint8Array {
  const bytes = readVector(file);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  return bytes;
}
