import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concatBytes, fromHex, sha256Hex, utf8 } from '../../../proto/index.ts';
import { parseCrl } from '../../evidence/crl.ts';
import { parsePemChain, parseCertificate, type Certificate } from '../../evidence/x509.ts';
import { issueCertificate, type CertificateRequest, type Issued } from '../../insecure/certificates.ts';
import { issueCrl } from '../../testing/crl.testkit.ts';
import { parseAkCertificate, verifyAkCertificate, type AkCertificateInput } from './ak-certificate.ts';
import { Findings } from '../findings.ts';
import { reasonsOf, txtar, vectorText } from './tpm.fixture.ts';

const now = new Date('2026-03-01T00:00:00Z');
const azureBlocks = txtar('tpm/azure-ak.txtar');
const gceBlocks = txtar('tpm/gce-ak.txtar');
/** One of the files begins with a comment. */
const pem = (name: string): readonly Certificate[] => parsePemChain(vectorText(`tpm/${name}`).replace(/^#.*$/gm, ''));
const block = (blocks: ReadonlyMap<string, Uint8Array>, name: string): Uint8Array =>
  blocks.get(name) ?? new Uint8Array();
const azureIssuers = [...pem('azure-tpm-intermediate-03.pem'), ...pem('azure-tpm-root-2023.pem')];
const gceIssuers = [
  parseCertificate(block(gceBlocks, 'test_gce_ak_intermediate_cert.pem')),
  ...pem('gce-ek-ak-root.pem'),
];
const azureStorage = block(azureBlocks, 'test_azure_ak_certificate_03.pem');

function input(bytes: Uint8Array, issuers: readonly Certificate[]): AkCertificateInput {
  const certificate = parseAkCertificate(bytes);
  const revocation = { notChecked: 'no list was recorded' };
  return { certificate, issuers, attestationKey: certificate.publicKey, now, revocation };
}
const azure = (name = 'test_azure_ak_certificate_01.pem'): AkCertificateInput =>
  input(block(azureBlocks, name), azureIssuers);
const google = (): AkCertificateInput => input(block(gceBlocks, 'test_gce_ak_cert.pem'), gceIssuers);
const verify = (subject: AkCertificateInput) => reasonsOf((findings) => verifyAkCertificate(subject, findings));

const root: Issued = await issue({ commonName: 'root' });

function issue(request: Partial<CertificateRequest> & { commonName: string }, issuer?: Issued): Promise<Issued> {
  const dates = { notBefore: '2026-01-01T00:00:00Z', notAfter: '2027-01-01T00:00:00Z' };
  return issueCertificate({ isCa: true, curve: 'P-256', ...dates, ...request }, issuer);
}

describe('recorded certificates', () => {
  test("Azure's, also as they lie in the TPM's storage", async () => {
    expect(azureStorage).toHaveLength(4096);
    const claims = await verifyAkCertificate(azure('test_azure_ak_certificate_03.pem'), new Findings());
    expect(claims).toMatchObject({ operator: 'azure', subject: '9b6eccb6c0a3.ConfidentialVM.Azure.windows.net' });
    expect(await verify(azure())).toEqual([]);
    expect(await verify(azure('test_azure_ak_certificate_03.pem'))).toEqual([]);
  });

  test("Google's, with the instance", async () => {
    expect(await verify(google())).toEqual([]);
    expect(await verifyAkCertificate(google(), new Findings())).toMatchObject({
      operator: 'google',
      gceInstance: {
        zone: 'us-west1-b',
        projectId: 'nonvolatile-dev',
        instanceId: '8033817256003918212',
        isProduction: true,
      },
    });
  });

  test('refuses them at another time', async () => {
    expect(await verify({ ...azure(), now: new Date('2026-11-01T00:00:00Z') })).toEqual(['certificate/expired']);
    expect(await verify({ ...azure(), now: new Date('2025-10-01T00:00:00Z') })).toEqual(['certificate/not-yet-valid']);
  });

  test('refuses another key, another root, another chain, no chain', async () => {
    expect(await verify({ ...azure(), attestationKey: google().attestationKey })).toEqual([
      'evidence/attestation-key-binding',
    ]);
    expect(await verify({ ...azure(), roots: { azure: '00'.repeat(32) } })).toEqual(['certificate/untrusted-root']);
    expect(await verify({ ...azure(), issuers: gceIssuers })).toEqual(['certificate/missing-intermediate']);
    expect(await verify({ ...azure(), issuers: azureIssuers.slice(1) })).toEqual(['certificate/missing-intermediate']);
    expect(await verify({ ...azure(), issuers: [] })).toEqual(['certificate/untrusted-root']);
  });

  test('refuses something else than fill behind the certificate', async () => {
    const parse = (bytes: Uint8Array) => reasonsOf(async () => void parseAkCertificate(bytes));
    const tail = azureStorage.slice();
    tail[4095] = 1;
    expect(await parse(tail)).toEqual(['parse/leftover']);
    expect(await parse(concatBytes(block(azureBlocks, 'test_azure_ak_certificate_01.pem'), utf8('x')))).toEqual([
      'parse/leftover',
    ]);
    expect(await parse(azureStorage.subarray(0, 500))).not.toEqual([]);
    expect(await parse(new Uint8Array())).not.toEqual([]);
    expect(await parse(fromHex('3084ffffffff'))).not.toEqual([]);
  });

  test('any changed byte of the certificate is refused', async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(1008), fc.integer({ min: 1, max: 255 }), async (at, bits) => {
        const bytes = azureStorage.slice();
        bytes[at] = (bytes[at] ?? 0) ^ bits;
        const reasons = await reasonsOf((findings) => verifyAkCertificate(input(bytes, azureIssuers), findings));
        expect(reasons.length).toBeGreaterThan(0);
      }),
      { numRuns: 200 },
    );
  });
});

describe('revocation', () => {
  test('needs a list of every CA that publishes one', async () => {
    const findings = new Findings();
    await verifyAkCertificate({ ...azure(), revocation: [] }, findings);
    expect(findings.failures).toMatchObject([
      { check: 'revocation of Global Virtual TPM CA - 03', reason: 'revocation/missing' },
    ]);
    expect(findings.list.filter(({ outcome }) => outcome === 'skipped')).toHaveLength(1);
  });

  test('refuses what a list names, and lists of others or of yesterday', async () => {
    const middle = await issue({ commonName: 'middle' }, root);
    const leaf = await issue({ commonName: 'ak', isCa: false }, middle);
    const dates = { thisUpdate: '2026-02-01T00:00:00Z', nextUpdate: '2026-04-01T00:00:00Z' };
    const crl = async (serial: Uint8Array, when = dates, signer = root) =>
      parseCrl(await issueCrl(root, { ...when, revoked: [{ serial }] }, signer));
    const middleSerial = parseCertificate(middle.der).serial;
    const subject = {
      ...input(leaf.der, [parseCertificate(middle.der), parseCertificate(root.der)]),
      roots: { simulated: await sha256Hex(root.der) },
    };
    const stale = { ...dates, nextUpdate: '2026-02-02T00:00:00Z' };
    const other = Uint8Array.of(5);
    expect(await verify({ ...subject, revocation: [await crl(other)] })).toEqual([]);
    expect(await verify({ ...subject, revocation: [await crl(middleSerial)] })).toEqual(['certificate/revoked']);
    expect(await verify({ ...subject, revocation: [await crl(other, stale)] })).toEqual(['revocation/stale']);
    expect(await verify({ ...subject, revocation: [await crl(other, dates, middle)] })).toEqual([
      'revocation/signature',
    ]);
  });
});

describe('purpose', () => {
  async function issued(request: Partial<CertificateRequest>): Promise<AkCertificateInput> {
    const leaf = await issue({ isCa: false, commonName: 'ak', ...request }, root);
    const subject = input(leaf.der, [parseCertificate(root.der)]);
    return { ...subject, roots: { simulated: await sha256Hex(root.der) } };
  }
  /** ExtendedKeyUsage of one OID. */
  const usage = (oid: string): Record<string, Uint8Array> => ({
    '2.5.29.37': fromHex(
      `30${(oid.length / 2 + 2).toString(16).padStart(2, '0')}06${(oid.length / 2).toString(16).padStart(2, '0')}${oid}`,
    ),
  });

  test('an attestation key, where the certificate says what it is for', async () => {
    expect(await verify(await issued({}))).toEqual([]);
    expect(await verify(await issued({ extensions: usage('6781050803') }))).toEqual([]);
    expect(await verify(await issued({ extensions: usage('6781050801') }))).toEqual(['certificate/wrong-role']);
    expect(await verify(await issued({ isCa: true }))).toEqual(['certificate/ca-flag', 'certificate/wrong-role']);
  });
});
