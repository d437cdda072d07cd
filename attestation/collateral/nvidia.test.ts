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
  test('fetches what makes a GPU verifiable, once', async () => {
    const collateral = open();
    const [{ rims, ocsp }, again] = await Promise.all([collateral([H100]), collateral([H100])]);
    expect(rims).toHaveLength(2);
    expect(ocsp).toHaveLength(7);
    expect(asked).toHaveLength(9);
    expect(again).toEqual({ rims, ocsp });
    // The device's answers are of another day than the RIMs': those alone are stale.
    const { reasons, findings } = await judge(
      h100({ rims, ocsp: ocsp.map(parseOcspResponse), revocation: 'required' }),
    );
    expect(reasons).toEqual(['revocation/stale']);
    expect(findings.failures).toHaveLength(3);
  });

  test('asks again when half of an answer’s time is over, RIMs after a day, and keeps what is usable meanwhile', async () => {
    now = new Date('2025-08-21T12:00:00Z'); // all answers are fresh, or from the future
    const collateral = open();
    await collateral([H100]);
    now = new Date(now.getTime() + 5 * HOUR_MS);
    await collateral([H100]);
    expect(asked).toHaveLength(9);
    now = new Date(now.getTime() + 3 * HOUR_MS); // the device's three are over half of their day
    await collateral([H100]);
    expect(asked).toHaveLength(12);
    respond = (_path, _body, response) => response.writeHead(503).end() !== undefined;
    expect((await collateral([H100])).ocsp).toHaveLength(7);
    now = new Date(now.getTime() + 12 * HOUR_MS); // past their end
    await expect(collateral([H100])).rejects.toMatchObject({ code: 'CFN_VENDOR_UNREACHABLE' });
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
    const { rims } = await open()([H100]);
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
      { reason: 'parse/json' },
    ],
    [
      'a RIM that is no XML',
      (path, response) =>
        path !== '/' && response.end(JSON.stringify({ id: path.replace('/v1/rim/', ''), rim: 'AAAA' })) !== undefined,
      { reason: 'parse/xml' },
    ],
    ['no JSON', (path, response) => path !== '/' && response.end('<html>') !== undefined, { reason: 'parse/json' }],
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
      { reason: 'parse/der' },
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
    await expect(open({ nonce: () => new Uint8Array(16) })([H100])).rejects.toMatchObject({
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
