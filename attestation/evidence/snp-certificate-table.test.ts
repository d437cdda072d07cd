import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CfnError, fromHex } from '../../proto/index.ts';
import { readVector } from '../verifier/amd/vectors.fixture.ts';
import { parseSnpCertificateTable } from './snp-certificate-table.ts';

const ID = {
  vcek: '63da758de6644564adc5f4b93be8accd',
  vlek: 'a8074bc2a25a483eaae639c045a0b8a1',
  ask: '4ab7b379bbac4fe4a02f05aef327c782',
  ark: 'c0b406a4a803495297433fb6014cd0ae',
  crl: '92f81bc358114d3d97ffd19f88dc67ea',
  other: 'ecae0c0f950243b1afa20ae2e0d565b6',
};
interface Entry {
  readonly id: string;
  readonly data?: Uint8Array;
  readonly offset?: number;
  readonly length?: number;
}

/** As the host lays it out: header, an entry of zeros, data, zeros up to the page. */
function table(entries: readonly Entry[], pageBytes = 4096): Uint8Array {
  const headerBytes = (entries.length + 1) * 24;
  const dataBytes = entries.reduce((sum, { data }) => sum + (data?.length ?? 0), 0);
  const bytes = new Uint8Array(Math.ceil((headerBytes + dataBytes) / pageBytes) * pageBytes);
  const view = new DataView(bytes.buffer);
  let at = headerBytes;
  for (const [index, { id, data = new Uint8Array(), offset, length }] of entries.entries()) {
    bytes.set(fromHex(id), index * 24);
    view.setUint32(index * 24 + 16, offset ?? at, true);
    view.setUint32(index * 24 + 20, length ?? data.length, true);
    bytes.set(data, at);
    at += data.length;
  }
  return bytes;
}
const vcek = readVector('certs/milan-v2-trustee.vcek.der');
const crl = readVector('crls/milan.crl.der');

describe('parseSnpCertificateTable', () => {
  test('gives certificates and lists, and leaves out what it does not know', () => {
    const bytes = table([
      { id: ID.vcek, data: vcek },
      { id: ID.other, data: Uint8Array.of(1) },
      { id: ID.ask, data: Uint8Array.of(2, 2) },
      { id: ID.ark, data: Uint8Array.of(3) },
      { id: ID.vlek, data: Uint8Array.of(4) },
      { id: ID.crl, data: crl },
    ]);
    const { certificates, crls } = parseSnpCertificateTable(bytes);
    expect(certificates).toEqual([vcek, Uint8Array.of(2, 2), Uint8Array.of(3), Uint8Array.of(4)]);
    expect(crls).toEqual([crl]);
  });

  test('takes a host that supplies nothing', () => {
    const nothing = { certificates: [], crls: [] };
    expect(parseSnpCertificateTable(new Uint8Array())).toEqual(nothing);
    expect(parseSnpCertificateTable(new Uint8Array(4096))).toEqual(nothing);
    expect(parseSnpCertificateTable(table([{ id: ID.vcek }]))).toEqual(nothing);
  });

  test.each<[string, string, Uint8Array]>([
    ['an entry into the header', 'parse/length', table([{ id: ID.vcek, data: vcek, offset: 24 }])],
    ['an entry past the end', 'parse/length', table([{ id: ID.vcek, data: vcek, offset: 4000 }])],
    ['an offset past the end', 'parse/length', table([{ id: ID.vcek, offset: 4097, length: 0 }])],
    ['a length that wraps', 'parse/length', table([{ id: ID.vcek, length: 0xffffffff }])],
    ['two of one id', 'parse/duplicate', table([{ id: ID.vcek }, { id: ID.vcek }])],
    ['many entries', 'parse/length', table(Array.from({ length: 17 }, (_, i) => ({ id: `${i + 10}`.repeat(16) })))],
    ['a huge table', 'parse/length', new Uint8Array(64 * 1024 + 1)],
  ])('refuses %s', (_, reason, bytes) => {
    expect(() => parseSnpCertificateTable(bytes)).toThrow(expect.objectContaining({ reason }));
  });

  test('refuses a header without end', () => {
    const bytes = table([{ id: ID.vcek, data: vcek }]);
    for (const length of [1, 23, 24, 47])
      expect(() => parseSnpCertificateTable(bytes.subarray(0, length))).toThrow(
        expect.objectContaining({ code: 'CFN_EVIDENCE_MALFORMED' }),
      );
  });

  test('throws nothing but CfnErrors, and gives nothing that is not in the table', () => {
    const good = table([
      { id: ID.vcek, data: vcek },
      { id: ID.crl, data: crl },
    ]);
    const patch = fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 6 });
    fc.assert(
      fc.property(patch, fc.nat(good.length), (patches, length) => {
        const bytes = Uint8Array.from(good);
        for (const [at, value] of patches) bytes[at] = value;
        try {
          const { certificates, crls } = parseSnpCertificateTable(bytes.subarray(0, length));
          for (const { buffer, byteOffset, byteLength } of [...certificates, ...crls]) {
            expect(buffer).toBe(bytes.buffer);
            expect(byteOffset + byteLength).toBeLessThanOrEqual(length);
          }
        } catch (error) {
          if (!(error instanceof CfnError)) throw error;
        }
      }),
    );
  });
});
