import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseOcspResponse } from '../evidence/ocsp.ts';
import { box, DRIVER_RIM, gpuOf, h100, judge, vector, VBIOS_RIM } from '../verifier/nvidia/nvidia.fixture.ts';
import { issueChain, writeOcsp, type Chain } from '../verifier/nvidia/authority.fixture.ts';
import { nvidiaCollateral, type NvidiaCollateralOptions } from './nvidia.ts';
import { nonceExtension, writeOcspRequest } from './ocsp-request.ts';
import { parseCertificate } from '../evidence/x509.ts';

const H100 = gpuOf('GPU 0', 'h100-550.90.07');
/** RIMs and their answers are of another day than the device's own, so the tests ask for one half or the other. */
const LEAF = { ...H100, chain: H100.chain.slice(0, 2) };
const DEVICE_NOW = new Date('2025-08-21T12:00:00Z');
const RIMS: Readonly<Record<string, string>> = {
  'NV_GPU_DRIVER_GH100_550.90.07': DRIVER_RIM,
  NV_GPU_VBIOS_1010_0200_882_96009F0001: VBIOS_RIM,
};
const OCSP = [
  'gpu_certificate_l2',
  'gpu_certificate_l3',
  'gpu_certificate_l4',
  'gpu_driver_rim_l3',
  'gpu_driver_rim_l4',
  'gpu_rim_l2',
  'gpu_vbios_l4',
];
const HOUR_MS = 60 * 60_000;

/** A stand-in for both services on the loopback interface, which answers from the recorded vectors. */
let asked: string[];
let respond: (path: string, body: Buffer, response: ServerResponse) => boolean;
let url: string;
let now: Date;
let server: ReturnType<typeof createServer>;

beforeEach(async () => {
  asked = [];
  respond = () => false;
  now = new Date('2025-10-24T12:00:00Z');
  server = createServer((request, response) => {
    const path = request.url ?? '';
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const body = Buffer.concat(parts);
      asked.push(path);
      if (respond(path, body, response)) return;
      const id = path.replace('/v1/rim/', '');
      const file = RIMS[id];
      if (path === '/') response.end(answerFor(body));
      else if (file === undefined) response.writeHead(404).end();
      else
        response.end(
          JSON.stringify({ id, rim: Buffer.from(vector(file)).toString('base64'), request_id: 'a', sha256: 'b' }),
        );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server's address is one
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** The recorded response whose CertID the request contains, byte for byte: so ours is the one that NVIDIA's responder was asked. */
function answerFor(request: Buffer): Uint8Array | undefined {
  for (const file of OCSP) {
    const der = vector(`ocsp/${file}.der`);
    const [answer] = parseOcspResponse(der).answers;
    const { issuerNameHash, issuerKeyHash, serial } = answer?.certId ?? {};
    if (
      [issuerNameHash, issuerKeyHash, serial].every((part) => part !== undefined && request.includes(Buffer.from(part)))
    )
      return der;
  }
  return undefined;
}

const open = (change: Partial<NvidiaCollateralOptions> = {}) =>
  nvidiaCollateral({ fetch, timeoutMs: 5000, now: () => now, rimUrl: url, ocspUrl: `${url}/`, ...change });

describe('nvidiaCollateral', () => {
  test('fetches the RIMs that a GPU needs, and OCSP answers for their signers, once', async () => {
    const collateral = open();
    const [{ rims, ocsp }, again] = await Promise.all([collateral([LEAF]), collateral([LEAF])]);
    expect(rims).toHaveLength(2);
    expect(ocsp).toHaveLength(4);
    expect(asked).toHaveLength(6);
    expect(again).toEqual({ rims, ocsp });
    const { findings } = await judge(h100({ rims, ocsp: ocsp.map(parseOcspResponse), revocation: 'required' }));
    expect(findings.failures).toMatchObject([{ check: 'GPU 0 revocation', reason: 'revocation/missing' }]);
  });

  test('asks for each of the device’s own certificates but the leaf', async () => {
    now = DEVICE_NOW;
    const { rims, ocsp } = await open({ rimUrl: undefined })([H100]);
    expect(rims).toEqual([]);
    const { findings } = await judge(
      h100({ rims: [], ocsp: ocsp.map(parseOcspResponse), revocation: 'required', now: DEVICE_NOW }),
    );
    expect(findings.failures.filter(({ reason }) => reason !== 'collateral/rim-missing')).toEqual([]);
  });

  test('looks up the signers of RIMs that are at hand, and nothing where no service is named', async () => {
    const own = [vector(DRIVER_RIM), vector(VBIOS_RIM)];
    expect((await open({ rimUrl: undefined })([LEAF], own)).ocsp).toHaveLength(4);
    asked = [];
    expect(await open({ rimUrl: undefined, ocspUrl: undefined })([LEAF], own)).toEqual({ rims: [], ocsp: [] });
    expect(asked).toEqual([]);
  });

  test('asks again when half of an answer’s time is over, and keeps what is usable meanwhile', async () => {
    now = DEVICE_NOW;
    const collateral = open({ rimUrl: undefined });
    await collateral([H100]);
    now = new Date(now.getTime() + 5 * HOUR_MS);
    await collateral([H100]);
    expect(asked).toHaveLength(3);
    now = new Date(now.getTime() + 3 * HOUR_MS); // over half of their day
    await collateral([H100]);
    expect(asked).toHaveLength(6);
    respond = (_path, _body, response) => response.writeHead(503).end() !== undefined;
    expect((await collateral([H100])).ocsp).toHaveLength(3);
    now = new Date(now.getTime() + 12 * HOUR_MS); // past their end
    await expect(collateral([H100])).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
  });

  test('asks for RIMs again after a day, and keeps what it has when that fails', async () => {
    const collateral = open({ ocspUrl: undefined });
    await collateral([H100]);
    now = new Date(now.getTime() + 24 * HOUR_MS);
    await collateral([H100]);
    expect(asked).toHaveLength(4);
    respond = (_path, _body, response) => response.writeHead(503).end() !== undefined;
    now = new Date(now.getTime() + 24 * HOUR_MS);
    expect((await collateral([H100])).rims).toHaveLength(2);
    now = new Date(now.getTime() + 31 * 24 * HOUR_MS);
    await expect(collateral([H100])).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
  });

  test('keeps nothing that its vendor did not sign, or that has ended', async () => {
    const driver = vector(DRIVER_RIM);
    const text = Buffer.from(driver).toString();
    const serve = (xml: string) =>
      void (respond = (path, _body, response) =>
        path.includes('DRIVER') &&
        response.end(JSON.stringify({ id: path.replace('/v1/rim/', ''), rim: Buffer.from(xml).toString('base64') })) !==
          undefined);
    const rimsOnly = open({ ocspUrl: undefined });
    serve(text.replace('active="True"', 'active="False"'));
    await expect(rimsOnly([H100])).rejects.toMatchObject({ reason: 'collateral/rim-signature' });
    respond = () => false;
    expect((await rimsOnly([H100])).rims).toHaveLength(2);
    now = new Date('2040-01-01T00:00:00Z');
    await expect(open({ ocspUrl: undefined })([H100])).rejects.toMatchObject({ reason: 'collateral/expired' });

    now = DEVICE_NOW;
    respond = (path, body, response) => {
      const altered = Buffer.from(answerFor(body) ?? []);
      altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1; // in the responder's certificate
      return path === '/' && response.end(altered) !== undefined;
    };
    await expect(open({ rimUrl: undefined })([H100])).rejects.toMatchObject({ reason: 'revocation/wrong-issuer' });
    respond = () => false;
    now = new Date('2025-10-24T12:00:00Z'); // the device's answers are of August
    await expect(open({ rimUrl: undefined })([H100])).rejects.toMatchObject({ reason: 'revocation/stale' });
  });

  test('leaves out RIMs that the service does not have, and the verifier names them', async () => {
    const { gpus } = box();
    respond = (path, _body, response) => path === '/' && response.end(vector('ocsp/gpu_rim_l2.der')) !== undefined;
    await expect(open()(gpus)).rejects.toMatchObject({ reason: 'revocation/wrong-issuer' });
    expect(asked.filter((path) => path !== '/').sort()).toEqual([
      '/v1/rim/NV_GPU_DRIVER_GH100_590.12',
      '/v1/rim/NV_GPU_VBIOS_G520_0200_885_9600A50001',
    ]);
    respond = (path, _body, response) => path.includes('DRIVER') && response.writeHead(404).end() !== undefined;
    const { rims } = await open()([LEAF]);
    const { findings } = await judge(h100({ rims }));
    expect(findings.failures).toMatchObject([{ reason: 'collateral/rim-missing' }]);
  });

  test.each<[string, (path: string, response: ServerResponse) => boolean, object]>([
    [
      'another RIM',
      (path, response) => path !== '/' && response.end('{"id":"a","rim":""}') !== undefined,
      { reason: 'collateral/wrong-id' },
    ],
    [
      'no RIM',
      (path, response) =>
        path !== '/' && response.end(JSON.stringify({ id: path.replace('/v1/rim/', '') })) !== undefined,
      { code: 'CFN_VENDOR_UNREACHABLE' },
    ],
    [
      'a RIM that is no XML',
      (path, response) =>
        path !== '/' && response.end(JSON.stringify({ id: path.replace('/v1/rim/', ''), rim: 'AAAA' })) !== undefined,
      { code: 'CFN_VENDOR_UNREACHABLE' },
    ],
    [
      'no JSON',
      (path, response) => path !== '/' && response.end('<html>') !== undefined,
      { code: 'CFN_VENDOR_UNREACHABLE' },
    ],
    [
      'a server error',
      (path, response) => path !== '/' && response.writeHead(500).end() !== undefined,
      { code: 'CFN_VENDOR_UNREACHABLE' },
    ],
    [
      'too much',
      (path, response) => path !== '/' && response.end(' '.repeat(2 * 1024 * 1024)) !== undefined,
      { code: 'CFN_VENDOR_UNREACHABLE' },
    ],
    [
      'an OCSP answer that is none',
      (path, response) => path === '/' && response.end('a') !== undefined,
      { code: 'CFN_VENDOR_UNREACHABLE' },
    ],
    [
      'an OCSP refusal',
      (path, response) => path === '/' && response.end(Buffer.from('30030a0106', 'hex')) !== undefined,
      { reason: 'revocation/missing' },
    ],
    [
      'too long an OCSP answer',
      (path, response) => path === '/' && response.end(' '.repeat(100_000)) !== undefined,
      { code: 'CFN_VENDOR_UNREACHABLE' },
    ],
  ])('refuses %s', async (_name, answer, expected) => {
    respond = (path, _body, response) => answer(path, response);
    await expect(open()([H100])).rejects.toMatchObject(expected);
  });

  test('refuses a service that hangs', async () => {
    respond = () => true;
    await expect(open({ timeoutMs: 50 })([H100])).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
  });

  test('refuses an answer without the nonce where one is sent', async () => {
    await expect(open({ nonce: () => new Uint8Array(16) })([LEAF])).rejects.toMatchObject({
      reason: 'revocation/nonce-missing',
    });
  });
});

test('an OCSP request carries a nonce that the answer repeats', async () => {
  const chain: Chain = await issueChain(['leaf', 'issuer', 'root']);
  const [leaf, issuer] = chain.issued;
  if (leaf === undefined || issuer === undefined) throw new RangeError('three');
  const nonce = new Uint8Array(16).fill(5);
  const request = await writeOcspRequest(parseCertificate(leaf.der), parseCertificate(issuer.der), nonce);
  expect(Buffer.from(request).includes(Buffer.from(nonceExtension(nonce)))).toBe(true);
  const response = parseOcspResponse(await writeOcsp({ certificate: leaf, issuer, nonce: nonceExtension(nonce) }));
  expect(response.nonce).toEqual(nonceExtension(nonce));
});
