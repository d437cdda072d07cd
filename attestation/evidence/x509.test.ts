import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { CfnError, fromHex, toHex } from '../../proto/index.ts';
import { issueCertificate } from '../insecure/certificates.ts';
import { boolean, octetString, oid, sequence } from './der-writer.ts';
import { DerReader, ecdsaSignatureFromDer } from './der.ts';
import { parseCertificate, parsePemChain, type Certificate } from './x509.ts';

const pem = readFileSync(new URL('../vectors/h100-550.90.07.pem', import.meta.url), 'utf8');
const intel = new Uint8Array(readFileSync(new URL('../vectors/intel-sgx-root-ca.der', import.meta.url)));

function codeOf(run: () => unknown): string {
  try {
    run();
    return 'none';
  } catch (error) {
    if (!(error instanceof CfnError)) throw error;
    return error.code;
  }
}

describe('parseCertificate', () => {
  test('reads real certificates as Node does', () => {
    for (const certificate of [parseCertificate(intel), ...parsePemChain(pem)]) {
      const theirs = new X509Certificate(certificate.der);
      expect(theirs.subject).toContain(`CN=${certificate.subjectCommonName}`);
      expect(theirs.ca).toBe(certificate.isCa);
      expect(theirs.validFromDate.getTime()).toBe(certificate.notBeforeMs);
      expect(toHex(theirs.publicKey.export({ type: 'spki', format: 'der' }))).toBe(toHex(certificate.publicKey.spki));
      expect(theirs.serialNumber.toLowerCase()).toBe(toHex(certificate.serial).replace(/^00/, ''));
    }
    expect(parsePemChain(pem).map(({ notAfterMs }) => new Date(notAfterMs).getUTCFullYear())).toEqual([
      9999, 9999, 9999, 9999, 9999,
    ]);
  });

  test('refuses bytes behind it, and any cut, with a code', () => {
    expect(codeOf(() => parseCertificate(Uint8Array.from([...intel, 0])))).toBe('CFN_EVIDENCE_MALFORMED');
    for (let length = 0; length < intel.length; length++) {
      expect(codeOf(() => parseCertificate(intel.subarray(0, length)))).toBe('CFN_EVIDENCE_MALFORMED');
    }
  });

  test('any change gives another certificate or a code, never another error', () => {
    fc.assert(
      fc.property(fc.nat(intel.length - 1), fc.nat(255), (at, byte) => {
        const altered = intel.slice();
        altered[at] = byte;
        expect(['none', 'CFN_EVIDENCE_MALFORMED']).toContain(codeOf(() => parseCertificate(altered)));
      }),
      { numRuns: 2000 },
    );
  });

  const base = {
    commonName: 'x',
    curve: 'P-256',
    isCa: false,
    notBefore: '2026-01-01T00:00:00Z',
    notAfter: '2051-01-01T00:00:00Z',
  } as const;
  const refused = (bytes: Uint8Array, reason: string) =>
    expect(() => parseCertificate(bytes)).toThrow(expect.objectContaining({ reason }));
  /** Replaces bytes of a certificate by as many others. */
  const patched = (bytes: Uint8Array, from: Uint8Array | string, to: Uint8Array | string): Uint8Array => {
    const [before, after] = [from, to].map((part) => (typeof part === 'string' ? part : toHex(part)));
    expect(toHex(bytes)).toContain(before);
    expect(after).toHaveLength(before?.length ?? 0);
    return fromHex(toHex(bytes).replaceAll(before ?? '', after ?? ''));
  };

  test('refuses an unknown critical extension, unless the caller acts upon it, and an extension given twice', async () => {
    const { der } = await issueCertificate({ ...base, extensions: { '1.2.3': new Uint8Array(2) } });
    expect(parseCertificate(der).extensions.get('1.2.3')).toEqual(new Uint8Array(2));
    expect(new Date(parseCertificate(der).notAfterMs).toISOString()).toBe('2051-01-01T00:00:00.000Z');
    const item = sequence(oid('1.2.3'), octetString(new Uint8Array(5)));
    const { der: plain } = await issueCertificate({ ...base, extensions: { '1.2.3': new Uint8Array(5) } });
    const critical = patched(plain, item, sequence(oid('1.2.3'), boolean(true), octetString(new Uint8Array(2))));
    refused(critical, 'parse/der');
    expect(parseCertificate(critical, ['1.2.3']).extensions.get('1.2.3')).toEqual(new Uint8Array(2));
    // A boolean that is neither true nor false must not pass for either.
    refused(patched(critical, '0101ff0402', '0101010402'), 'parse/der');
    const { der: twice } = await issueCertificate({ ...base, extensions: { '2.5.29.15': fromHex('03020780') } });
    refused(twice, 'parse/duplicate');
  });

  test('refuses another version, another algorithm outside than inside, and dates that are none', async () => {
    const { der } = await issueCertificate({ ...base, notAfter: '2027-01-01T00:00:00Z' });
    refused(patched(der, 'a003020102', 'a003020101'), 'parse/unsupported-version');
    const outside = toHex(der).lastIndexOf('300a06082a8648ce3d040302') / 2;
    refused(der.with(outside + 11, 3), 'parse/der');
    refused(patched(der, '300a06082a8648ce3d040302', '300a06082a8648ce3d040301'), 'parse/unsupported-algorithm');
    const time = (digits: string) => toHex(new TextEncoder().encode(digits));
    for (const date of ['270230000000Z', '271301000000Z', '270101240000Z', '2701010000000', '27010100000aZ'])
      refused(patched(der, time('270101000000Z'), time(date)), 'parse/der');
  });

  test("reads AMD's: RSA keys, RSA-PSS signatures, serial number 0", () => {
    const read = (name: string) => readFileSync(new URL(`../vectors/snp/${name}`, import.meta.url));
    const [ask] = parsePemChain(read('chains/ask_ark_milan.pem').toString());
    expect(ask).toMatchObject({
      publicKey: { type: 'rsa', modulusBits: 4096 },
      signatureAlgorithm: { type: 'rsa-pss', hash: 'SHA-384', saltBytes: 48 },
    });
    const vcek = parseCertificate(new Uint8Array(read('certs/milan-v2-goguest.vcek.der')));
    expect(vcek.serial).toEqual(Uint8Array.of(0));
    expect(vcek.publicKey).toMatchObject({ type: 'ec', curve: 'P-384' });
  });
});

describe('parsePemChain', () => {
  test('takes white space and one NUL, nothing else', () => {
    expect(parsePemChain(`\n${pem.replaceAll('\n', '\r\n')}\r\n\0`)).toHaveLength(5);
    for (const text of [
      '',
      ' ',
      '\0',
      `${pem}x`,
      `x${pem}`,
      pem.replaceAll('CERTIFICATE', 'X'),
      `${pem}\0\0`,
      pem.repeat(2),
      pem.slice(0, -4),
    ]) {
      expect(codeOf(() => parsePemChain(text))).toBe('CFN_EVIDENCE_MALFORMED');
    }
  });

  test('keeps the order', () => {
    const chain = parsePemChain(pem);
    expect((chain[0] as Certificate).subjectCommonName).toBe('GH100 A01 GSP FMC LF');
  });
});

describe('DER', () => {
  test.each([
    ['indefinite length', '3080'],
    ['long length in short form', '308103020100'],
    ['length with leading zero', '3082000302010f'],
    ['huge length', '3084ffffffff'],
    ['long-form tag', '1f8100'],
    ['no length', '30'],
  ])('refuses %s', (_name, hex) => {
    expect(codeOf(() => new DerReader(fromHex(hex)).any('element'))).toBe('CFN_EVIDENCE_MALFORMED');
  });

  test.each(['0200', '02020001', '0201ff', '0205008000000000', '020500ffffffff'])('refuses the integer %s', (hex) => {
    expect(codeOf(() => new DerReader(fromHex(hex)).integer('n'))).toBe('CFN_EVIDENCE_MALFORMED');
  });

  test.each(['0600', '06022a80', '06032a8001', '06062aff ffffff7f'.replace(' ', '')])(
    'refuses the object identifier %s',
    (hex) => {
      expect(codeOf(() => new DerReader(fromHex(hex)).oid('oid'))).toBe('CFN_EVIDENCE_MALFORMED');
    },
  );

  test('pads r and s, and refuses those that are too long', () => {
    expect(toHex(ecdsaSignatureFromDer(fromHex('3006020101020102'), 2))).toBe('00010002');
    expect(codeOf(() => ecdsaSignatureFromDer(fromHex('300802030100000201 02'.replace(' ', '')), 2))).toBe(
      'CFN_EVIDENCE_MALFORMED',
    );
  });
});
