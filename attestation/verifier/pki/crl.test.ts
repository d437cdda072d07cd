import { beforeAll, describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { CfnError, concatBytes } from '../../../proto/index.ts';
import { findRevoked, parseCrl, type Crl } from '../../evidence/crl.ts';
import { DER } from '../../evidence/der.ts';
import { boolean, der, integer, sequence, time } from '../../evidence/der-writer.ts';
import { parseCertificate, type Certificate } from '../../evidence/x509.ts';
import { issueCertificate, type CertificateRequest, type Issued } from '../../insecure/certificates.ts';
import { extension, issueCrl, type CrlRequest } from '../../testing/crl.testkit.ts';
import { requireNotRevoked, verifyCrl } from './crl.ts';

const dates = { thisUpdate: '2026-06-01T00:00:00Z', nextUpdate: '2026-07-01T00:00:00Z' };
const now = new Date('2026-06-15T00:00:00Z');
const base: CertificateRequest = {
  commonName: 'CA',
  curve: 'P-256',
  isCa: true,
  notBefore: '2026-01-01T00:00:00Z',
  notAfter: '2027-01-01T00:00:00Z',
};

let ca: Issued;
let issuer: Certificate;
let leaf: Certificate;
let template: Crl;
beforeAll(async () => {
  ca = await issueCertificate(base);
  issuer = parseCertificate(ca.der);
  template = parseCrl(await issueCrl(ca, dates));
  leaf = parseCertificate((await issueCertificate({ ...base, commonName: 'leaf', isCa: false }, ca)).der);
});

const issue = async (request: Partial<CrlRequest> = {}, signer?: Issued) =>
  parseCrl(await issueCrl(ca, { ...dates, ...request }, signer));
const refusal = (reason: string) => expect.objectContaining({ reason });

describe('verifyCrl', () => {
  test('accepts an empty list and a full one', async () => {
    await verifyCrl(await issue(), issuer, now, 'CRL');
    const full = await issue({ revoked: [{ serial: Uint8Array.of(5) }, { serial: Uint8Array.of(0), reason: 1 }] });
    await verifyCrl(full, issuer, now, 'CRL');
    requireNotRevoked(full, leaf, 'CRL');
  });

  test('counts from the first to the last moment, and not a moment longer', async () => {
    const crl = await issue();
    const at = (time: string) => verifyCrl(crl, issuer, new Date(time), 'CRL');
    await at('2026-06-01T00:00:00.000Z');
    await at('2026-07-01T00:00:00.000Z');
    await expect(at('2026-05-31T23:59:59.999Z')).rejects.toEqual(refusal('revocation/not-yet-valid'));
    await expect(at('2026-07-01T00:00:00.001Z')).rejects.toEqual(refusal('revocation/stale'));
    await expect(at('no date')).rejects.toEqual(refusal('revocation/not-yet-valid'));
  });

  test("refuses another key under the issuer's name, and another name", async () => {
    const impostor = await issueCertificate(base);
    await expect(verifyCrl(await issue({}, impostor), issuer, now, 'CRL')).rejects.toEqual(
      refusal('revocation/signature'),
    );
    const other = parseCertificate((await issueCertificate({ ...base, commonName: 'other' })).der);
    await expect(verifyCrl(await issue(), other, now, 'CRL')).rejects.toEqual(refusal('revocation/wrong-issuer'));
  });

  test('refuses an issuer that is no CA', async () => {
    const none = await issueCertificate({ ...base, isCa: false });
    const crl = parseCrl(await issueCrl(none, dates));
    await expect(verifyCrl(crl, parseCertificate(none.der), now, 'CRL')).rejects.toEqual(
      refusal('revocation/wrong-issuer'),
    );
  });

  test('refuses any one bit changed', async () => {
    const bytes = await issueCrl(ca, { ...dates, revoked: [{ serial: leaf.serial, reason: 1 }] });
    for (let at = 0; at < bytes.length; at++) {
      const altered = bytes.slice();
      altered[at] = (altered[at] ?? 0) ^ (1 << (at % 8));
      await expect(
        (async () => {
          const crl = parseCrl(altered);
          await verifyCrl(crl, issuer, now, 'CRL');
          requireNotRevoked(crl, leaf, 'CRL');
        })(),
      ).rejects.toBeInstanceOf(CfnError);
    }
  });
});

describe('requireNotRevoked', () => {
  test('refuses what is listed, wherever it stands', async () => {
    const others = [1, 2, 3].map((serial): { serial: Uint8Array } => ({ serial: Uint8Array.of(serial) }));
    for (const at of [0, 1, 3]) {
      const crl = await issue({ revoked: others.toSpliced(at, 0, { serial: leaf.serial }) });
      expect(() => requireNotRevoked(crl, leaf, 'CRL')).toThrow(refusal('certificate/revoked'));
    }
  });

  test('a hold is told apart, and does not hide a revocation', () => {
    const hold = { serial: leaf.serial, reason: 6 };
    expect(() => requireNotRevoked(crlOf([hold]), leaf, 'CRL')).toThrow(refusal('revocation/hold'));
    const both = [hold, { serial: leaf.serial, reason: 1 }];
    expect(() => requireNotRevoked(crlOf(both), leaf, 'CRL')).toThrow(refusal('certificate/revoked'));
    expect(() => requireNotRevoked(crlOf(both.toReversed()), leaf, 'CRL')).toThrow(refusal('certificate/revoked'));
  });

  test("refuses another CA's list", async () => {
    const other = await issueCertificate({ ...base, commonName: 'other' });
    const crl = parseCrl(await issueCrl(other, dates));
    expect(() => requireNotRevoked(crl, leaf, 'CRL')).toThrow(refusal('revocation/wrong-issuer'));
  });

  test('refuses entries of an indirect list, also behind the match', async () => {
    const certificateIssuer = extension('2.5.29.29', sequence(), true);
    const crl = await issue({
      revoked: [{ serial: leaf.serial }, { serial: Uint8Array.of(1), extensions: certificateIssuer }],
    });
    expect(() => requireNotRevoked(crl, leaf, 'CRL')).toThrow(refusal('parse/der'));
  });
});

/** A list as a parsed value; its signature is that of an empty one. */
function crlOf(revoked: readonly { readonly serial: Uint8Array; readonly reason?: number }[]) {
  const entries = revoked.map(({ serial, reason = 0 }) =>
    sequence(
      der(DER.integer, serial),
      time(dates.thisUpdate),
      sequence(extension('2.5.29.21', der(DER.enumerated, Uint8Array.of(reason)))),
    ),
  );
  return { ...template, entries: concatBytes(...entries) };
}

describe('parseCrl', () => {
  const bad: [string, string, Partial<CrlRequest>][] = [
    ['version 1', 'parse/unsupported-version', { version: 0 }],
    ['no end', 'parse/der', { nextUpdate: null }],
    ['a delta', 'parse/der', { extensions: [extension('2.5.29.27', integer(1))] }],
    ['a critical delta', 'parse/der', { extensions: [extension('2.5.29.27', integer(1), true)] }],
    ['a distribution point', 'parse/der', { extensions: [extension('2.5.29.28', sequence(boolean(true)), true)] }],
    ['an unknown critical extension', 'parse/der', { extensions: [extension('1.2.3', integer(1), true)] }],
    ['an extension twice', 'parse/duplicate', { extensions: [extension('2.5.29.20', integer(2))] }],
  ];
  test.each(bad)('refuses %s', async (_name, reason, request) => {
    await expect(issue(request)).rejects.toEqual(refusal(reason));
  });

  test('refuses more than 4 MiB before reading it', () => {
    expect(() => parseCrl(new Uint8Array(4 * 1024 * 1024 + 1))).toThrow(refusal('parse/length'));
  });

  test('looks through fifty thousand entries in the blink of an eye', () => {
    const many = crlOf(Array.from({ length: 50_000 }, () => ({ serial: Uint8Array.of(1, 2, 3, 4) })));
    const start = performance.now();
    expect(findRevoked(many, leaf.serial)).toBeUndefined();
    expect(performance.now() - start).toBeLessThan(2000);
  });

  test('any change, cut or addition gives a value or a refusal, never another error', async () => {
    const bytes = await issueCrl(ca, { ...dates, revoked: [{ serial: leaf.serial, reason: 1 }] });
    const parse = (input: Uint8Array): void => {
      try {
        findRevoked(parseCrl(input), leaf.serial);
      } catch (error) {
        expect(error).toBeInstanceOf(CfnError);
      }
    };
    for (let length = 0; length < bytes.length; length++) parse(bytes.subarray(0, length));
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.uint8Array({ minLength: 1, maxLength: 4 }), (at, patch) => {
        const altered = bytes.slice();
        altered.set(patch.subarray(0, bytes.length - at), at);
        parse(altered);
      }),
      { numRuns: 2000 },
    );
  });
});
