import { beforeAll, describe, expect, test } from 'vitest';
import { fromHex } from '../../../proto/index.ts';
import { parseOcspResponse } from '../../evidence/ocsp.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import { issueCertificate, type Issued } from '../../insecure/certificates.ts';
import {
  issueChain,
  issueResponder,
  OCSP_STATUS,
  writeOcsp,
  type Chain,
  type OcspParts,
} from '../nvidia/authority.fixture.ts';
import { chainOf, ocspOf, vector } from '../nvidia/nvidia.fixture.ts';
import { verifyOcsp, type OcspOptions } from './ocsp.ts';
import { parseRim } from '../../evidence/rim.ts';

const NOW = new Date('2025-10-24T12:00:00Z');

describe('NVIDIA’s answers', () => {
  const device = chainOf('chains/h100-550.90.07.pem');
  const driver = parseRim(vector('rims/NV_GPU_DRIVER_GH100_550.90.07.xml')).signature.certificates;
  const vbios = parseRim(vector('rims/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml')).signature.certificates;
  test.each([
    ['gpu_certificate_l4', device, 1, '2025-08-21T12:00:00Z'],
    ['gpu_certificate_l3', device, 2, '2025-08-21T12:00:00Z'],
    ['gpu_certificate_l2', device, 3, '2025-08-21T12:00:00Z'],
    ['gpu_driver_rim_l4', driver, 0, '2025-10-24T12:00:00Z'],
    ['gpu_driver_rim_l3', driver, 1, '2025-10-24T12:00:00Z'],
    ['gpu_rim_l2', driver, 2, '2025-10-24T12:00:00Z'],
    ['gpu_vbios_l4', vbios, 0, '2025-10-24T12:00:00Z'],
  ] as const)('%s says good of one certificate only', async (file, chain, depth, now) => {
    const response = ocspOf(file);
    const options = { now: new Date(now), what: 'chain' };
    for (const [at, certificate] of chain.slice(0, -1).entries()) {
      const issuer = chain[at + 1];
      if (issuer === undefined) throw new RangeError('it has an issuer');
      const verified = verifyOcsp(response, certificate, issuer, options);
      if (at === depth) await verified;
      else await expect(verified).rejects.toMatchObject({ reason: 'revocation/wrong-issuer' });
    }
  });
});

describe('verifyOcsp', () => {
  let chain: Chain;
  let leaf: Issued;
  let issuer: Issued;
  let responder: Issued;
  beforeAll(async () => {
    chain = await issueChain(['leaf', 'issuer', 'root']);
    const [first, second] = chain.issued;
    if (first === undefined || second === undefined) throw new RangeError('three');
    [leaf, issuer] = [first, second];
    responder = await issueResponder(issuer);
  });
  const verify = async (parts: Partial<OcspParts> = {}, options: Partial<OcspOptions> = {}): Promise<void> => {
    const response = parseOcspResponse(await writeOcsp({ certificate: leaf, issuer, responder, ...parts }));
    const [certificate, by] = [parseCertificate(leaf.der), parseCertificate(issuer.der)];
    await verifyOcsp(response, certificate, by, { now: NOW, what: 'chain', ...options });
  };

  test('takes answers of a delegated responder and of the issuer, by key and by name, in each hash', async () => {
    await verify();
    await verify({ responder: issuer });
    await verify({ byName: true });
    for (const hash of ['SHA-1', 'SHA-256', 'SHA-384'] as const) await verify({ hash });
    await verify({ nonce: fromHex('0401aa') }, { nonce: fromHex('0401aa') });
    await verify({ nonce: fromHex('0401aa') });
    // A responder's clock may be a little ahead.
    await verify({ producedAt: '20251024120030Z', thisUpdate: '20251024120030Z' });
  });

  test.each<[string, Partial<OcspParts>, Partial<OcspOptions>, string]>([
    ['unknown', { status: OCSP_STATUS.unknown }, {}, 'revocation/status-unknown'],
    ['revoked', { status: OCSP_STATUS.revoked(1) }, {}, 'certificate/revoked'],
    ['revoked without a reason', { status: OCSP_STATUS.revokedWithoutReason }, {}, 'certificate/revoked'],
    [
      'revoked, where a hold is tolerated',
      { status: OCSP_STATUS.revoked(1) },
      { holdTolerated: true },
      'certificate/revoked',
    ],
    ['a hold', { status: OCSP_STATUS.revoked(6) }, {}, 'revocation/hold'],
    ['stale', { nextUpdate: '20251024113000Z' }, {}, 'revocation/stale'],
    ['without an end', { nextUpdate: null }, {}, 'revocation/stale'],
    ['from the future', { thisUpdate: '20251024120200Z' }, {}, 'revocation/not-yet-valid'],
    ['produced in the future', { producedAt: '20251024120200Z' }, {}, 'revocation/not-yet-valid'],
    ['a date that is none', {}, { now: new Date(Number.NaN) }, 'revocation/not-yet-valid'],
    ['without the nonce', {}, { nonce: fromHex('0401aa') }, 'revocation/nonce-missing'],
    ['another nonce', { nonce: fromHex('0401ab') }, { nonce: fromHex('0401aa') }, 'revocation/nonce-missing'],
    ['another certificate', { serial: fromHex('0123') }, {}, 'revocation/wrong-issuer'],
  ])('refuses %s', async (_name, parts, options, reason) => {
    await expect(verify(parts, options)).rejects.toMatchObject({ reason });
  });

  test('tolerates a hold where the policy says so', async () => {
    await verify({ status: OCSP_STATUS.revoked(6) }, { holdTolerated: true });
  });

  test('refuses responders without the purpose, of another issuer, expired, that are CAs', async () => {
    const [, , root] = chain.issued;
    if (root === undefined) throw new RangeError('three');
    const expect_ = async (other: Issued, reason: string): Promise<void> => {
      await expect(verify({ responder: other })).rejects.toMatchObject({ reason });
      await expect(verify({ responder: other, byName: true })).rejects.toMatchObject({ reason });
    };
    await expect_(await issueResponder(issuer, { extensions: {} }), 'revocation/wrong-issuer');
    await expect_(await issueResponder(issuer, { isCa: true }), 'revocation/wrong-issuer');
    await expect_(await issueResponder(root), 'revocation/wrong-issuer');
    await expect_(leaf, 'revocation/wrong-issuer');
    await expect_(await issueResponder(issuer, { notAfter: '2025-10-24T11:59:59Z' }), 'certificate/expired');
    await expect_(await issueResponder(issuer, { notBefore: '2025-10-25T00:00:00Z' }), 'certificate/not-yet-valid');
    // One who has the issuer's name, and not its key.
    const impostor = await issueCertificate({ ...issuer.request }, root);
    await expect_(await issueResponder(impostor), 'revocation/wrong-issuer');
  });

  test('refuses a response that names a responder and is signed by another key', async () => {
    const good = await writeOcsp({ certificate: leaf, issuer, responder });
    const { signature } = parseOcspResponse(
      await writeOcsp({ certificate: leaf, issuer, responder, status: OCSP_STATUS.unknown }),
    );
    const response = { ...parseOcspResponse(good), signature };
    const [certificate, by] = [parseCertificate(leaf.der), parseCertificate(issuer.der)];
    await expect(verifyOcsp(response, certificate, by, { now: NOW, what: 'chain' })).rejects.toMatchObject({
      reason: 'revocation/signature',
    });
  });
});

describe('parseOcspResponse', () => {
  test('refuses answers that are none', () => {
    const refused = (bytes: Uint8Array, reason: string): void =>
      expect(() => parseOcspResponse(bytes)).toThrow(expect.objectContaining({ reason }));
    for (const status of [1, 2, 3, 5, 6])
      refused(fromHex(`30030a01${status.toString().padStart(2, '0')}`), 'revocation/missing');
    refused(new Uint8Array(), 'parse/der');
    refused(new Uint8Array(65 * 1024), 'parse/length');
    const good = vector('ocsp/gpu_vbios_l4.der');
    for (let length = 0; length < good.length; length += 7) refused(good.subarray(0, length), 'parse/der');
    refused(Uint8Array.from([...good, 0]), 'parse/der');
  });
});
