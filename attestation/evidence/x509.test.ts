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
      expect(toHex(theirs.publicKey.export({ type: 'spki', format: 'der' }))).toBe(
        toHex(certificate.publicKey.spki),
      );
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

  test('refuses an unknown critical extension, and an extension given twice', async () => {
    const base = {
      commonName: 'x',
      curve: 'P-256',
      isCa: false,
      notBefore: '2026-01-01T00:00:00Z',
      notAfter: '2051-01-01T00:00:00Z',
    } as const;
    const { der } = await issueCertificate({ ...base, extensions: { '1.2.3': new Uint8Array(2) } });
    expect(parseCertificate(der).extensions.get('1.2.3')).toEqual(new Uint8Array(2));
    expect(new Date(parseCertificate(der).notAfterMs).toISOString()).toBe('2051-01-01T00:00:00.000Z');
    const item = toHex(sequence(oid('1.2.3'), octetString(new Uint8Array(5))));
    const critical = toHex(sequence(oid('1.2.3'), boolean(true), octetString(new Uint8Array(2))));
    expect(critical).toHaveLength(item.length);
    const { der: plain } = await issueCertificate({ ...base, extensions: { '1.2.3': new Uint8Array(5) } });
    expect(codeOf(() => parseCertificate(fromHex(toHex(plain).replace(item, critical))))).toBe(
      'CFN_EVIDENCE_MALFORMED',
    );
    const { der: twice } = await issueCertificate({ ...base, extensions: { '2.5.29.15': fromHex('03020780') } });
    expect(codeOf(() => parseCertificate(twice))).toBe('CFN_EVIDENCE_MALFORMED');
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
