import { constants, createPrivateKey, generateKeyPairSync, sign as signByNode } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { fromHex, toHex } from '../../../proto/index.ts';
import { parsePublicKey, parseSignatureAlgorithm, type PublicKey } from '../../evidence/algorithms.ts';
import { context, der, integer, oid, sequence } from '../../evidence/der-writer.ts';
import { DER } from '../../evidence/der.ts';
import { verifyEcdsa, verifySignature } from './signatures.ts';

const data = Uint8Array.from({ length: 100 }, (_, i) => i);
const NULL = der(DER.null);
const HASH_OIDS = {
  'SHA-256': '2.16.840.1.101.3.4.2.1',
  'SHA-384': '2.16.840.1.101.3.4.2.2',
  'SHA-512': '2.16.840.1.101.3.4.2.3',
} as const;
type Hash = keyof typeof HASH_OIDS;
const hashes = Object.keys(HASH_OIDS) as Hash[];
const nodeName = (hash: Hash) => hash.replace('-', '').toLowerCase();

function keyPair(type: 'rsa' | 'P-256' | 'P-384'): { key: PublicKey; pem: string } {
  const { publicKey, privateKey } =
    type === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateKeyPairSync('ec', { namedCurve: type });
  return {
    key: parsePublicKey(new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }))),
    pem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

const pss = (hash: Hash, salt: number, mask: Hash = hash, ...more: Uint8Array[]) => {
  const algorithm = (name: Hash) => sequence(oid(HASH_OIDS[name]), NULL);
  return sequence(
    oid('1.2.840.113549.1.1.10'),
    sequence(
      context(0, algorithm(hash)),
      context(1, sequence(oid('1.2.840.113549.1.1.8'), algorithm(mask))),
      context(2, integer(salt)),
      ...more,
    ),
  );
};

describe('verifySignature', () => {
  const rsa = keyPair('rsa');

  test.each(hashes)('RSA-PSS and PKCS #1 v1.5 with %s, as Node signs', async (hash) => {
    const options = { key: createPrivateKey(rsa.pem), padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 };
    const signature = new Uint8Array(signByNode(nodeName(hash), data, options));
    const algorithm = parseSignatureAlgorithm(pss(hash, 48));
    expect(await verifySignature(rsa.key, algorithm, signature, data)).toBe(true);
    expect(await verifySignature(rsa.key, parseSignatureAlgorithm(pss(hash, 32)), signature, data)).toBe(false);
    expect(await verifySignature(rsa.key, algorithm, signature.with(9, (signature[9] ?? 0) ^ 1), data)).toBe(false);
    const pkcs1 = new Uint8Array(signByNode(nodeName(hash), data, rsa.pem));
    expect(await verifySignature(rsa.key, { type: 'rsa-pkcs1', hash }, pkcs1, data)).toBe(true);
    expect(await verifySignature(rsa.key, { type: 'rsa-pkcs1', hash }, signature, data)).toBe(false);
    expect(await verifySignature(rsa.key, { type: 'rsa-pkcs1', hash }, pkcs1.subarray(1), data)).toBe(false);
  });

  test.each(['P-256', 'P-384'] as const)('ECDSA on %s with each hash, and a key of another kind', async (curve) => {
    const { key, pem } = keyPair(curve);
    for (const hash of hashes) {
      const signature = new Uint8Array(signByNode(nodeName(hash), data, pem));
      expect(await verifySignature(key, { type: 'ecdsa', hash }, signature, data)).toBe(true);
      expect(await verifySignature(key, { type: 'ecdsa', hash }, signature, data.subarray(1))).toBe(false);
      expect(await verifySignature(rsa.key, { type: 'ecdsa', hash }, signature, data)).toBe(false);
      expect(await verifySignature(key, { type: 'rsa-pkcs1', hash }, signature, data)).toBe(false);
    }
  });

  test('a raw signature of another length, and a point off the curve, verify nothing', async () => {
    const { key } = keyPair('P-256');
    if (key.type !== 'ec') throw new TypeError('an elliptic key');
    expect(await verifyEcdsa(key, 'SHA-256', new Uint8Array(63), data)).toBe(false);
    expect(await verifyEcdsa(key, 'SHA-256', new Uint8Array(64), data)).toBe(false);
    const off = { curve: 'P-256', xy: new Uint8Array(64).fill(1) } as const;
    expect(await verifyEcdsa(off, 'SHA-256', new Uint8Array(64).fill(1), data)).toBe(false);
    expect(await verifyEcdsa(off, 'SHA-256', new Uint8Array(64).fill(1), data)).toBe(false); // from the cache
  });
});

describe('algorithms', () => {
  const refused = (bytes: Uint8Array, reason: string) =>
    expect(() => parseSignatureAlgorithm(bytes)).toThrow(expect.objectContaining({ reason }));

  test('PSS: everything must be written out, and be the same hash', () => {
    expect(parseSignatureAlgorithm(pss('SHA-384', 48))).toEqual({ type: 'rsa-pss', hash: 'SHA-384', saltBytes: 48 });
    expect(parseSignatureAlgorithm(pss('SHA-256', 32, 'SHA-256', context(3, integer(1))))).toMatchObject({
      saltBytes: 32,
    });
    refused(pss('SHA-384', 48, 'SHA-256'), 'parse/unsupported-algorithm');
    refused(pss('SHA-384', 65), 'parse/unsupported-algorithm');
    refused(pss('SHA-384', 48, 'SHA-384', context(3, integer(2))), 'parse/unsupported-algorithm');
    refused(sequence(oid('1.2.840.113549.1.1.10'), sequence()), 'parse/der');
    refused(sequence(oid('1.2.840.113549.1.1.10')), 'parse/der');
  });

  test('SHA-1, MD5, DSA and parameters where none belong', () => {
    refused(sequence(oid('1.2.840.113549.1.1.5'), NULL), 'parse/unsupported-algorithm');
    refused(sequence(oid('1.2.840.113549.1.1.4'), NULL), 'parse/unsupported-algorithm');
    refused(sequence(oid('2.16.840.1.101.3.4.3.2')), 'parse/unsupported-algorithm');
    refused(sequence(oid('1.2.840.10045.4.3.2'), NULL), 'parse/der');
    refused(sequence(oid('1.2.840.113549.1.1.11'), integer(1)), 'parse/der');
  });

  test('short RSA keys, even exponents, compressed points, other curves', () => {
    const spki = (modulusLength: number) =>
      new Uint8Array(generateKeyPairSync('rsa', { modulusLength }).publicKey.export({ type: 'spki', format: 'der' }));
    const refusedKey = (bytes: Uint8Array, reason: string) =>
      expect(() => parsePublicKey(bytes)).toThrow(expect.objectContaining({ reason }));
    expect(parsePublicKey(spki(2048))).toMatchObject({ type: 'rsa', modulusBits: 2048 });
    refusedKey(spki(1024), 'parse/unsupported-algorithm');
    refusedKey(fromHex(toHex(spki(2048)).replace(/010001$/, '010000')), 'parse/unsupported-algorithm');
    const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-521' });
    refusedKey(new Uint8Array(publicKey.export({ type: 'spki', format: 'der' })), 'parse/unsupported-algorithm');
    const point = keyPair('P-256').key.spki;
    refusedKey(point.with(point.length - 65, 2), 'parse/der');
  });
});
