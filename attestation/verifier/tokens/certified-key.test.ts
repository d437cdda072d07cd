import { exportJWK } from 'jose';
import { beforeAll, describe, expect, test } from 'vitest';
import { sha256Hex } from '../../../proto/index.ts';
import { fromBase64 } from '../../evidence/base64.ts';
import { parseJwks } from '../../evidence/jwks.ts';
import { parsePem } from '../../evidence/pem.ts';
import type { Reason } from '../../evidence/reasons.ts';
import { issueCertificate, type CertificateRequest, type Issued } from '../../insecure/certificates.ts';
import { NRAS_INTERMEDIATES } from '../trust-anchors.ts';
import { certifiedKey } from './certified-key.ts';
import { judge, madeService, NONCE, NOW, partsOf, sign, vector } from './nras.fixture.ts';
import type { TokenKeys } from './keys.ts';

const refused = (reason: Reason) => expect.objectContaining({ reason }) as Error;
const base64 = (der: Uint8Array): string => Buffer.from(der).toString('base64');

describe("NVIDIA's recorded certificates", () => {
  let x5c: string[];
  beforeAll(async () => {
    ({ x5c } = JSON.parse(await vector('nras-x5c-20260608.json')) as { x5c: string[] });
  });
  const options = {
    anchors: NRAS_INTERMEDIATES,
    curve: 'P-384',
    now: new Date('2026-06-09T00:00:00Z'),
    what: 'NRAS key',
  };

  test('the P-384 key is certified by the pinned RSA intermediate 004', async () => {
    const key = await certifiedKey(x5c, options);
    expect(key.algorithm).toEqual({ name: 'ECDSA', namedCurve: 'P-384' });
    await expect(certifiedKey(x5c, { ...options, curve: 'P-256' })).rejects.toThrow(
      refused('evidence/token-algorithm'),
    );
  });

  test('is refused outside its two days, and under other anchors', async () => {
    const at = (now: string) => certifiedKey(x5c, { ...options, now: new Date(now) });
    await expect(at('2026-06-08T19:50:19Z')).rejects.toThrow(refused('certificate/not-yet-valid'));
    await expect(at('2026-06-10T19:50:51Z')).rejects.toThrow(refused('certificate/expired'));
    await expect(at('never')).rejects.toThrow(refused('certificate/not-yet-valid'));
    const [other = ''] = NRAS_INTERMEDIATES;
    await expect(certifiedKey(x5c, { ...options, anchors: [other] })).rejects.toThrow(
      refused('certificate/untrusted-root'),
    );
    await expect(certifiedKey(x5c, { ...options, anchors: [] })).rejects.toThrow(refused('certificate/untrusted-root'));
    await expect(certifiedKey(x5c.slice(0, 1), options)).rejects.toThrow(refused('certificate/untrusted-root'));
    await expect(certifiedKey([], options)).rejects.toThrow(refused('certificate/missing-intermediate'));
    await expect(certifiedKey(x5c.toReversed(), options)).rejects.toThrow(refused('certificate/ca-flag'));
  });

  test('the pinned intermediates are 002, 003 and 004, and no leaf is one', async () => {
    const [second, third] = await Promise.all(parsePem(await vector('nras-intermediates.pem'), 8).map(sha256Hex));
    const [leaf, fourth] = await Promise.all(x5c.map((text) => sha256Hex(fromBase64(text))));
    expect(NRAS_INTERMEDIATES).toEqual([second, third, fourth]);
    expect(NRAS_INTERMEDIATES).not.toContain(leaf);
  });

  test('a leaf that another CA signed is refused', async () => {
    const [leaf = '', intermediate = ''] = x5c;
    const [second] = parsePem(await vector('nras-intermediates.pem'), 8).map(base64);
    await expect(certifiedKey([leaf, second ?? ''], options)).rejects.toThrow(refused('certificate/broken-link'));
    const altered = fromBase64(leaf);
    altered[altered.length - 1] = (altered.at(-1) ?? 0) ^ 1;
    await expect(certifiedKey([base64(altered), intermediate], options)).rejects.toThrow(
      refused('certificate/broken-link'),
    );
    await expect(certifiedKey(['AAAA', intermediate], options)).rejects.toThrow(
      expect.objectContaining({ code: 'CFN_EVIDENCE_MALFORMED' }) as Error,
    );
    await expect(certifiedKey([`${leaf.slice(0, -4)}!!!!`, intermediate], options)).rejects.toThrow(
      refused('parse/base64'),
    );
  });
});

describe('tokens under throw-away certificates', () => {
  const dates = { notBefore: '2025-06-10T00:00:00Z', notAfter: '2025-06-12T00:00:00Z' };
  const request = (change: Partial<CertificateRequest>): CertificateRequest => ({
    commonName: 'CA',
    curve: 'P-384',
    isCa: true,
    ...dates,
    ...change,
  });
  let root: Issued;
  let intermediate: Issued;
  let leaf: Issued;
  beforeAll(async () => {
    root = await issueCertificate(request({ commonName: 'Root' }));
    intermediate = await issueCertificate(request({ commonName: 'Intermediate' }), root);
    leaf = await issueCertificate(request({ commonName: 'Leaf', isCa: false }), intermediate);
  });

  async function judged(
    chain: readonly Issued[],
    anchor: Issued,
    signer = leaf,
    named = chain[0] ?? leaf,
  ): Promise<string[]> {
    const service = await madeService('certified');
    const point = await exportJWK(named.keys.publicKey);
    const jwk = { ...service.jwk, ...point, x5c: chain.map(({ der }) => base64(der)) };
    const keys: TokenKeys = {
      kind: 'certified',
      jwks: parseJwks(JSON.stringify({ keys: [jwk] })),
      anchors: [await sha256Hex(anchor.der)],
    };
    const { overall, devices } = partsOf(await service.answer());
    const header = { alg: 'ES384', kid: 'certified' };
    const device = await sign(devices['GPU-0'], header, signer.keys.privateKey);
    const submods = { 'GPU-0': ['DIGEST', ['SHA-256', await sha256Hex(new TextEncoder().encode(device))]] };
    const answer = JSON.stringify([
      ['JWT', await sign({ ...overall, submods }, header, signer.keys.privateKey)],
      { 'GPU-0': device },
    ]);
    const { failures, findings } = await judge({ answer, keys, nonce: NONCE, now: NOW });
    expect(findings.list).toContainEqual(
      expect.objectContaining({ check: 'NRAS keys: revocation', outcome: 'skipped' }),
    );
    return [...new Set(failures.map(({ reason }) => reason))];
  }

  test('an anchor may be the root, or what stands between', async () => {
    expect(await judged([leaf, intermediate], intermediate)).toEqual([]);
    expect(await judged([leaf, intermediate, root], intermediate)).toEqual([]);
    expect(await judged([leaf, intermediate, root], root)).toEqual([]);
    expect(await judged([leaf, intermediate], root)).toEqual(['certificate/untrusted-root']);
    expect(await judged([leaf, root], root)).toEqual(['certificate/broken-link']);
    expect(await judged([leaf], leaf)).toEqual(['certificate/untrusted-root']);
  });

  test('the key that counts is the certified one, and the key set names no other', async () => {
    const other = await issueCertificate(request({ commonName: 'Leaf', isCa: false }), intermediate);
    for (const [signer, named] of [
      [other, leaf],
      [other, other],
      [leaf, other],
    ] as const)
      expect(await judged([leaf, intermediate], intermediate, signer, named)).toEqual(['evidence/token-signature']);
  });

  test('roles, path lengths and dates of each certificate', async () => {
    const notCa = await issueCertificate(request({ commonName: 'Not a CA', isCa: false }), root);
    const below = await issueCertificate(request({ commonName: 'Leaf', isCa: false }), notCa);
    expect(await judged([below, notCa, root], root, below)).toEqual(['certificate/ca-flag']);
    expect(await judged([intermediate, root], root, intermediate)).toEqual(['certificate/ca-flag']);
    const short = await issueCertificate(request({ commonName: 'Short', pathLength: 0 }));
    const middle = await issueCertificate(request({ commonName: 'Middle' }), short);
    const deep = await issueCertificate(request({ commonName: 'Leaf', isCa: false }), middle);
    expect(await judged([deep, middle, short], short, deep)).toEqual(['certificate/wrong-role']);
    const old = await issueCertificate(request({ commonName: 'Old', notAfter: '2025-06-10T12:00:00Z' }), root);
    const young = await issueCertificate(request({ commonName: 'Leaf', isCa: false }), old);
    expect(await judged([young, old, root], root, young)).toEqual(['certificate/expired']);
  });
});

describe('key sets', () => {
  const p384 = { kty: 'EC', crv: 'P-384', x: 'AA', y: 'AA' };
  test('keys of other kinds are left out', () => {
    const keys = [{ kty: 'RSA', n: 'AA', e: 'AQAB' }, { ...p384, crv: 'P-521' }, { kty: 'oct', k: 'AA' }, p384];
    expect(parseJwks(JSON.stringify({ keys }))).toHaveLength(1);
  });
  test.each([
    ['not JSON', '{'],
    ['no set', '[]'],
    ['keys that are none', '{"keys":[1]}'],
    ['a private key', JSON.stringify({ keys: [{ ...p384, d: 'AA' }] })],
    ['half a key', JSON.stringify({ keys: [{ ...p384, y: undefined }] })],
    ['a curve of another type', JSON.stringify({ keys: [{ ...p384, crv: 'Ed25519' }] })],
    ['certificates that are no base64', JSON.stringify({ keys: [{ ...p384, x5c: ['-'] }] })],
    ['no end of keys', JSON.stringify({ keys: Array.from({ length: 257 }, () => p384) })],
  ])('%s is refused', (_, text) => {
    expect(() => parseJwks(text)).toThrow(refused('parse/json'));
  });
  test('a member named twice is refused, also under an escape', () => {
    expect(() => parseJwks('{"keys":[],"keys":[]}')).toThrow(refused('parse/duplicate'));
    expect(() => parseJwks('{"keys":[{"kty":"EC","k\\u0074y":"EC"}]}')).toThrow(refused('parse/duplicate'));
  });
  test('a point that is not on its curve verifies nothing', async () => {
    const service = await madeService();
    const jwks = parseJwks(JSON.stringify({ keys: [{ ...service.jwk, x: service.jwk.y }] }));
    const { failures } = await judge({
      answer: await service.answer(),
      keys: { kind: 'pinned', jwks },
      nonce: NONCE,
      now: NOW,
    });
    expect(failures[0]?.reason).toBe('evidence/token-signature');
  });
});
