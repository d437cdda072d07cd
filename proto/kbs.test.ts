import { readFileSync } from 'node:fs';
import { flattenedDecrypt, importJWK, type JWK } from 'jose';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { canonicalJson } from './canonical-json.ts';
import { fromBase64url, fromUtf8, toBase64url, toHex, utf8 } from './bytes.ts';
import { isErrorCode } from './errors.ts';
import {
  chooseKbsHash,
  KBS_ERRORS,
  KBS_HASHES,
  kbsAttestationSchema,
  kbsChallengeSchema,
  kbsDeviceNonce,
  kbsHashOf,
  kbsJweSchema,
  kbsReportData,
  kbsRequestSchema,
  parseKbsUrl,
  teePubkeySchema,
  type TeePubkey,
} from './kbs.ts';
import { kbsRecourse } from './kbs-errors.ts';
import { decryptResource, encryptResource, generateTeeKeyPair, parseTeePubkey } from './kbs-jwe.ts';

const digests = z.strictObject({ reportData: z.string(), deviceNonce: z.string() });
const { exchanges } = z
  .object({
    exchanges: z.array(
      z.object({
        name: z.string(),
        auth: z.object({ request: kbsRequestSchema, answer: kbsChallengeSchema }),
        attest: z.object({ request: kbsAttestationSchema }),
        resource: kbsJweSchema,
        digests: z.record(z.enum(KBS_HASHES), digests),
        privateKey: z.custom<JWK>(),
        plaintext: z.string(),
      }),
    ),
  })
  .parse(JSON.parse(readFileSync(new URL('vectors/kbs/exchanges.json', import.meta.url), 'utf8')));

describe.each(exchanges)('exchange with a $name key, made by another program', (exchange) => {
  const { 'runtime-data': runtime, 'tee-evidence': evidence } = exchange.attest.request;

  test('the hash is chosen and read as it was', () => {
    expect(chooseKbsHash(exchange.auth.request['extra-params'])).toBe('sha384');
    expect(kbsHashOf(exchange.auth.answer['extra-params'])).toBe('sha384');
  });

  test.each(KBS_HASHES)('report data and device nonce are the same under %s', async (hash) => {
    const binding = { nonce: runtime.nonce, teePubkey: runtime['tee-pubkey'], hash };
    expect(toHex(await kbsReportData(binding, evidence.additional_evidence))).toBe(exchange.digests[hash].reportData);
    expect(toHex(await kbsDeviceNonce(binding))).toBe(exchange.digests[hash].deviceNonce);
    expect(toHex(await kbsReportData(binding, `${evidence.additional_evidence} `))).not.toBe(
      exchange.digests[hash].reportData,
    );
  });

  test('the resource opens, and nothing of it can be changed', async () => {
    const privateKey = await importJWK(exchange.privateKey, runtime['tee-pubkey'].alg);
    const { plaintext } = await flattenedDecrypt(exchange.resource, privateKey);
    expect(toHex(plaintext)).toBe(exchange.plaintext);
    for (const member of ['encrypted_key', 'iv', 'ciphertext', 'tag'] as const) {
      const bytes = fromBase64url(exchange.resource[member]);
      bytes[0] = (bytes[0] ?? 0) ^ 1;
      await expect(
        flattenedDecrypt({ ...exchange.resource, [member]: toBase64url(bytes) }, privateKey),
      ).rejects.toThrow();
    }
  });

  test('what we encrypt opens, and its header is as clients that write it anew would write it', async () => {
    const jwe = await encryptResource(utf8('a resource'), runtime['tee-pubkey']);
    const privateKey = await importJWK(exchange.privateKey, runtime['tee-pubkey'].alg);
    const { plaintext } = await flattenedDecrypt(jwe, privateKey);
    expect(fromUtf8(plaintext)).toBe('a resource');
    const header = fromUtf8(fromBase64url(jwe.protected));
    expect(header).toBe(canonicalJson(JSON.parse(header)));
    expect(Object.keys(jwe).toSorted()).toEqual(Object.keys(exchange.resource).toSorted());
  });
});

describe('opening what a broker released', () => {
  test('opens under the key that it was asked with alone, and encrypted as was asked alone', async () => {
    const [keys, others] = [await generateTeeKeyPair(), await generateTeeKeyPair()];
    const jwe = await encryptResource(utf8('key'), keys.publicKey);
    expect(fromUtf8(await decryptResource(jwe, keys))).toBe('key');
    const header = toBase64url(utf8('{"alg":"dir","enc":"A256GCM"}'));
    const { tag, ...cut } = jwe;
    for (const [bad, by] of [
      [jwe, others],
      [{ ...jwe, protected: header }, keys],
      [{ ...jwe, encrypted_key: '' }, keys],
      [{ ...jwe, header: { alg: 'dir' } }, keys],
      [cut, keys],
    ] as const)
      await expect(decryptResource(bad as typeof jwe, by)).rejects.toMatchObject({ code: 'CFN_BROKER_ANSWER' });
    expect(tag).toHaveLength(22);
  });

  test('a point that is not on its curve is not encrypted to', async () => {
    const { publicKey } = await generateTeeKeyPair();
    if (publicKey.kty !== 'EC') throw new Error('expected a point');
    const off: TeePubkey = { ...publicKey, y: publicKey.x };
    await expect(encryptResource(utf8('x'), off)).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
  });
});

test('keys of other kinds, curves and algorithms are refused', () => {
  const ec = { kty: 'EC', crv: 'P-256', alg: 'ECDH-ES+A256KW', x: 'A'.repeat(43), y: 'A'.repeat(43) };
  const rsa = { kty: 'RSA', alg: 'RSA-OAEP-256', n: 'A'.repeat(342), e: 'AQAB' };
  expect([ec, rsa].map((key) => teePubkeySchema.safeParse(key).success)).toEqual([true, true]);
  for (const bad of [
    { ...ec, alg: 'ECDH-ES' },
    { ...ec, crv: 'P-384' },
    { ...ec, x: 'A'.repeat(44) },
    { ...ec, d: 'A'.repeat(43) },
    { ...rsa, alg: 'RSA1_5' },
    { ...rsa, n: 'A'.repeat(171) },
    { kty: 'AKP', alg: 'ML-KEM-768+A192KW', pub: 'AA' },
  ]) {
    expect(teePubkeySchema.safeParse(bad).success).toBe(false);
    expect(() => parseTeePubkey(JSON.stringify(bad))).toThrow();
  }
});

test('hash algorithms that neither side has in common are refused', () => {
  expect(chooseKbsHash('')).toBeUndefined();
  expect(chooseKbsHash({ 'supported-hash-algorithms': ['SHA512', 'sha256'] })).toBe('sha512');
  expect(() => chooseKbsHash({ 'supported-hash-algorithms': ['sm3'] })).toThrow('sha384');
  expect(kbsHashOf('')).toBe('sha384');
  expect(() => kbsHashOf({ 'selected-hash-algorithm': 'sm3' })).toThrow('sm3');
});

describe('URLs of resources', () => {
  test('name broker and resource', () => {
    expect(parseKbsUrl('kbs+https://broker.example:8080/acme/key/detector')).toEqual({
      broker: 'https://broker.example:8080',
      resource: 'acme/key/detector',
    });
    expect(parseKbsUrl('kbs+http://127.0.0.1:8080/owners/acme/acme/key/a.b')).toEqual({
      broker: 'http://127.0.0.1:8080/owners/acme',
      resource: 'acme/key/a.b',
    });
  });
  test.each([
    'https://broker.example/a/b/c',
    'kbs://broker.example/a/b/c',
    'kbs+ftp://broker.example/a/b/c',
    'kbs+http://broker.example/a/b/c',
    'kbs+http://127.0.0.1.example/a/b/c',
    'kbs+https://broker.example/a/b',
    'kbs+https://broker.example/a//c',
    'kbs+https://broker.example/a/b/c?x=1',
    'kbs+https://user@broker.example/a/b/c',
    'kbs+https://broker.example/a/b/..%2fc',
  ])('%s is none', (url) => {
    expect(() => parseKbsUrl(url)).toThrow(expect.objectContaining({ code: 'CFN_INPUT_INVALID' }));
  });
});

describe('what a client does about a refusal', () => {
  // Every variant of the protocol, with the status that brokers of today give it.
  const variants = {
    'attest-again': ['TokenNotFound', 'TokenVerifierError', 'AttestationError'],
    retry: [
      'PluginInternalError',
      'PluginManagerInitialization',
      'StorageBackendInitialization',
      'AdminAuthInitialization',
      'HTTPFailed',
      'HTTPSFailed',
      'JweError',
      'RvpsError',
      'PolicyEngineError',
      'PrometheusError',
    ],
    denied: ['PolicyDeny', 'AdminAuthAccess', 'ParsePolicyError', 'SerdeError', 'InvalidRequestPath', 'PluginNotFound'],
  } as const;
  const cases = Object.entries(variants).flatMap(([recourse, names]) => names.map((name) => [name, recourse]));
  test.each(cases)('%s: %s', (name, recourse) => {
    expect(kbsRecourse(401, { type: `${KBS_ERRORS}${name}`, detail: 'text' })).toBe(recourse);
    expect(kbsRecourse(503, { type: `${KBS_ERRORS}${name}`, detail: 'text' })).toBe(recourse);
  });

  test.each([
    [401, 'denied'],
    [403, 'denied'],
    [404, 'denied'],
    [400, 'denied'],
    [413, 'denied'],
    [302, 'denied'],
    [408, 'retry'],
    [429, 'retry'],
    [500, 'retry'],
    [502, 'retry'],
    [503, 'retry'],
  ])('%d without a name that is known: %s', (status, recourse) => {
    for (const body of [
      undefined,
      'text',
      {},
      { type: 'about:blank' },
      { type: `${KBS_ERRORS}Unheard` },
      { type: `${KBS_ERRORS}toString` },
      { type: 'https://elsewhere.example/errors/PluginInternalError' },
    ])
      expect(kbsRecourse(status, body)).toBe(recourse);
    expect(isErrorCode('CFN_BROKER_DENIED')).toBe(true);
  });
});
