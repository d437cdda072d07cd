import { expect, test } from 'vitest';
import { concatBytes, toHex, utf8 } from '../../proto/index.ts';
import { readVector } from '../verifier/amd/vectors.fixture.ts';
import { AMD_EXTENSION, isAmdLeaf, parseAmdLeaf } from './amd-certificate.ts';
import { der, integer } from './der-writer.ts';
import { DER } from './der.ts';
import { parseCertificate, parsePemChain, type Certificate } from './x509.ts';

const real = (name: string): Certificate => parseCertificate(readVector(`certs/${name}.der`));
const milan = real('milan-v2-trustee.vcek');
const genoa = real('genoa-v3-msft.vcek');

/** A real certificate whose extensions are others; nothing here looks at its signature. */
function withExtensions(
  certificate: Certificate,
  changes: Readonly<Record<string, Uint8Array | undefined>>,
): Certificate {
  const extensions = new Map(certificate.extensions);
  for (const [suffix, value] of Object.entries(changes)) {
    if (value === undefined) extensions.delete(`${AMD_EXTENSION}.${suffix}`);
    else extensions.set(`${AMD_EXTENSION}.${suffix}`, value);
  }
  return { ...certificate, extensions };
}
const ia5 = (text: string): Uint8Array => der(DER.ia5String, utf8(text));

test('reads real VCEK and VLEK certificates', () => {
  expect(parseAmdLeaf(milan)).toMatchObject({
    kind: 'VCEK',
    product: 'Milan',
    productName: 'Milan-B0',
    cspId: undefined,
  });
  expect(toHex(parseAmdLeaf(milan).tcb)).toBe('0300000000000873');
  expect(parseAmdLeaf(milan).hardwareId).toHaveLength(64);
  expect(parseAmdLeaf(genoa)).toMatchObject({ kind: 'VCEK', product: 'Genoa', productName: 'Genoa' });
  expect(parseAmdLeaf(real('milan-v3-vlek-trustee.vlek'))).toMatchObject({
    kind: 'VLEK',
    product: 'Milan',
    productName: 'Milan',
    hardwareId: undefined,
    cspId: 'CN=cc-us-east-2.amazonaws.com',
  });
});

test('reads the hardware id in both of its encodings', () => {
  const wrapped = real('test-vcek-invalid-new');
  expect(wrapped.extensions.get(`${AMD_EXTENSION}.4`)).toHaveLength(66);
  expect(parseAmdLeaf(wrapped).hardwareId).toHaveLength(64);
  const id = parseAmdLeaf(milan).hardwareId ?? new Uint8Array();
  expect(parseAmdLeaf(withExtensions(milan, { 4: der(DER.octetString, id) })).hardwareId).toEqual(id);
});

test('tells leaves from authorities', () => {
  expect(isAmdLeaf(milan)).toBe(true);
  const authorities = parsePemChain(new TextDecoder().decode(readVector('chains/ask_ark_milan.pem')));
  expect(authorities.some(isAmdLeaf)).toBe(false);
});

const TURIN = {
  2: ia5('Turin-B0'),
  4: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8),
  '3.9': integer(11),
  '3.4': undefined,
};

test("reads Turin's patch levels in Turin's layout", () => {
  const { tcb, hardwareId } = parseAmdLeaf(withExtensions(milan, TURIN));
  expect([...tcb]).toEqual([11, 3, 0, 8, 0, 0, 0, 0x73]);
  expect(hardwareId).toHaveLength(8);
});

test('keeps the reserved patch levels in their places', () => {
  const changes = { '3.4': integer(1), '3.5': integer(2), '3.6': integer(3), '3.7': integer(4) };
  expect(toHex(parseAmdLeaf(withExtensions(milan, changes)).tcb)).toBe('0300010203040873');
});

test.each<[string, string, Readonly<Record<string, Uint8Array | undefined>>]>([
  ['no structure version', 'parse/der', { 1: undefined }],
  ['no product name', 'parse/der', { 2: undefined }],
  ['a product name of another type', 'parse/der', { 2: der(DER.utf8String, utf8('Milan-B0')) }],
  ['an unknown product', 'certificate/wrong-product', { 2: ia5('Rome-B0') }],
  ['no bootloader level', 'parse/der', { '3.1': undefined }],
  ['no TEE level', 'parse/der', { '3.2': undefined }],
  ['no SNP level', 'parse/der', { '3.3': undefined }],
  ['no microcode level', 'parse/der', { '3.8': undefined }],
  ['a level over 255', 'parse/der', { '3.8': integer(256) }],
  ['a negative level', 'parse/der', { '3.8': Uint8Array.of(2, 1, 0x80) }],
  ['bytes behind a level', 'parse/der', { '3.8': concatBytes(integer(1), Uint8Array.of(0)) }],
  ['an FMC level on Milan', 'parse/der', { '3.9': integer(1) }],
  ['a Turin without FMC level', 'parse/der', { ...TURIN, '3.9': undefined }],
  ['a short hardware id on Milan', 'parse/der', { 4: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) }],
  ['a hardware id of 63 bytes', 'parse/der', { 4: new Uint8Array(63) }],
  ['a hardware id wrapped in something else', 'parse/der', { 4: der(DER.bitString, new Uint8Array(64)) }],
  ['hardware id and provider', 'certificate/wrong-role', { 5: ia5('CN=x') }],
  ['neither', 'certificate/wrong-role', { 4: undefined }],
  ['a provider that is no text', 'parse/der', { 4: undefined, 5: Uint8Array.of(0x16, 3, 0x41) }],
])('refuses %s', (_, reason, changes) => {
  expect(() => parseAmdLeaf(withExtensions(milan, changes))).toThrow(expect.objectContaining({ reason }));
});
