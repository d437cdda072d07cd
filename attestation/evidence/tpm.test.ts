import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concatBytes, fromHex, toHex } from '../../proto/index.ts';
import { appraiseAttestationKey } from '../verifier/tpm/public.ts';
import { reasonsOf, sized, u16, u32, vectorText } from '../verifier/tpm/tpm.fixture.ts';
import { parseGceInstance } from './gce-instance.ts';
import { isFill } from './padding.ts';
import { ecPublicKey, rsaPublicKey } from './public-key.ts';
import { parseTpmEvidence } from './tpm-evidence-json.ts';
import { parseTpmPublic, TPM_OBJECT } from './tpm-public.ts';

const modulus = new Uint8Array(256).fill(0xc3);
const AK = 0x00050072;

/** TPMT_PUBLIC of an RSA attestation key: restricted, signs with RSASSA and SHA-256. */
const rsaPublic = ({ attributes = AK, exponent = 0, keyBits = 2048, n = modulus } = {}) =>
  concatBytes(
    u16(0x0001),
    u16(0x000b),
    u32(attributes),
    sized(new Uint8Array(32)),
    u16(0x0010),
    u16(0x0014),
    u16(0x000b),
    u16(keyBits),
    u32(exponent),
    sized(n),
  );
const eccPublic = (curve = 3, x = new Uint8Array(31).fill(1)) =>
  concatBytes(
    u16(0x0023),
    u16(0x000b),
    u32(AK),
    sized(new Uint8Array()),
    u16(0x0010),
    u16(0x0018),
    u16(0x000b),
    u16(curve),
    u16(0x0010),
    sized(x),
    sized(new Uint8Array(32).fill(2)),
  );
const parsePublic = (bytes: Uint8Array) => reasonsOf(async () => void parseTpmPublic(bytes));

describe('public areas', () => {
  test('of RSA and ECC keys, with and without their length', () => {
    const rsa = parseTpmPublic(rsaPublic());
    expect(rsa.publicKey).toEqual(rsaPublicKey(modulus));
    expect(parseTpmPublic(sized(rsaPublic()))).toEqual(rsa);
    const ecc = parseTpmPublic(eccPublic());
    expect(ecc.publicKey).toMatchObject({ type: 'ec', curve: 'P-256' });
    // Short coordinates get their zeros back.
    expect(toHex(ecc.publicKey.spki)).toMatch(/0400(?:01){31}(?:02){32}$/);
    expect(parseTpmPublic(eccPublic(4)).publicKey).toMatchObject({ curve: 'P-384' });
  });

  test('keys as WebCrypto writes them', async () => {
    const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-384' }, true, ['sign', 'verify']);
    const spki = new Uint8Array(await crypto.subtle.exportKey('spki', keys.publicKey));
    const { x = '', y = '' } = await crypto.subtle.exportKey('jwk', keys.publicKey);
    const coordinate = (text: string) => new Uint8Array(Buffer.from(text, 'base64url'));
    expect(ecPublicKey('P-384', coordinate(x), coordinate(y)).spki).toEqual(spki);
  });

  test('refuses weak keys, other curves and types, and what is cut or longer', async () => {
    expect(await parsePublic(rsaPublic({ exponent: 3 }))).toEqual(['parse/unsupported-key-type']);
    expect(await parsePublic(rsaPublic({ n: modulus.subarray(128), keyBits: 1024 }))).toEqual([
      'parse/unsupported-key-type',
    ]);
    expect(await parsePublic(rsaPublic({ n: modulus.map(() => 0xc2) }))).toEqual(['parse/unsupported-key-type']);
    expect(await parsePublic(rsaPublic({ keyBits: 3072 }))).toEqual(['parse/length']);
    expect(await parsePublic(eccPublic(5))).toEqual(['parse/unsupported-key-type']);
    expect(await parsePublic(eccPublic(3, new Uint8Array(33).fill(1)))).toEqual(['parse/length']);
    expect(await parsePublic(u16(0x25))).toEqual(['parse/unsupported-key-type']);
    expect(await parsePublic(concatBytes(rsaPublic(), Uint8Array.of(0)))).toEqual(['parse/length']);
    const whole = rsaPublic();
    for (let length = 0; length < whole.length; length++)
      expect(await parsePublic(whole.subarray(0, length))).toHaveLength(1);
  });

  test('of keys that could sign a forged quote are refused', async () => {
    const reasons = (attributes: number) =>
      reasonsOf((findings) => appraiseAttestationKey(parseTpmPublic(rsaPublic({ attributes })), findings));
    expect(await reasons(AK)).toEqual([]);
    const { fixedTpm, fixedParent, sensitiveDataOrigin, restricted, sign, decrypt } = TPM_OBJECT;
    for (const bit of [fixedTpm, fixedParent, sensitiveDataOrigin, restricted, sign, decrypt])
      expect(await reasons(AK ^ bit)).toEqual(['policy/attributes']);
  });
});

describe('evidence as JSON', () => {
  const parse = (text: string) => reasonsOf(async () => void parseTpmEvidence(text));
  const files = ['az-snp-evidence-v1', 'az-snp-evidence-v2', 'az-tdx-evidence-v1', 'tpm-evidence', 'az-snp.tpm-quote'];
  const read = (name: string): string => vectorText(`tpm/${name}.json`);

  test('is recognised by its members', () => {
    expect(files.map((name) => parseTpmEvidence(read(name)).kind)).toEqual([
      'azure-snp',
      'azure-snp',
      'azure-tdx',
      'tpm',
      'tpm-quote',
    ]);
  });

  test('of version 0 spells bytes as lists of numbers', async () => {
    interface Version1 {
      readonly tpm_quote: { readonly message: string; readonly signature: string; readonly pcrs: readonly string[] };
      readonly hcl_report: string;
    }
    const numbers = (text: string, encoding: 'hex' | 'base64url') => [...Buffer.from(text, encoding)];
    const parts = ({ tpm_quote: { message, signature, pcrs }, hcl_report }: Version1) => ({
      quote: {
        message: numbers(message, 'hex'),
        signature: numbers(signature, 'hex'),
        pcrs: pcrs.map((value) => numbers(value, 'hex')),
      },
      report: numbers(hcl_report, 'base64url'),
    });
    const snp = JSON.parse(read('az-snp-evidence-v1')) as Version1 & { vcek: string };
    const tdx = JSON.parse(read('az-tdx-evidence-v1')) as Version1 & { td_quote: string };
    const vcek = `-----BEGIN CERTIFICATE-----\n${Buffer.from(snp.vcek, 'base64url').toString('base64')}\n-----END CERTIFICATE-----\n`;
    const old = { ...parts(snp), vcek };
    const { quote: tpm_quote, report: hcl_report } = parts(tdx);
    const oldTdx = { tpm_quote, hcl_report, td_quote: numbers(tdx.td_quote, 'base64url') };
    expect(parseTpmEvidence(JSON.stringify(old))).toEqual({
      ...parseTpmEvidence(read('az-snp-evidence-v1')),
      version: 0,
    });
    expect(parseTpmEvidence(JSON.stringify(oldTdx))).toEqual({
      ...parseTpmEvidence(read('az-tdx-evidence-v1')),
      version: 0,
    });
    for (const number of [-1, 256, 0.5, '72', null, 1e99])
      expect(await parse(JSON.stringify({ ...old, report: [number, ...old.report.slice(1)] }))).toEqual(['parse/json']);
    const pcrs = [old.quote.pcrs[0]?.slice(1), ...old.quote.pcrs.slice(1)];
    expect(await parse(JSON.stringify({ ...old, quote: { ...old.quote, pcrs } }))).toEqual(['parse/json']);
    expect(await parse(JSON.stringify({ ...old, vcek: 'none' }))).toEqual(['parse/json']);
  });

  test('takes a public area where a key may stand', () => {
    const json = JSON.parse(read('tpm-evidence')) as Record<string, unknown>;
    const ak_public = Buffer.from(rsaPublic()).toString('base64');
    expect(parseTpmEvidence(JSON.stringify({ ...json, ak_public }))).toMatchObject({
      kind: 'tpm',
      attestationKey: { attributes: AK },
    });
  });

  test('refuses other members, other versions, other encodings, and what is twice there', async () => {
    const snp = read('az-snp-evidence-v1');
    const tdx = read('az-tdx-evidence-v1');
    const cases: [string, string][] = [
      ['parse/unknown-input', '{}'],
      ['parse/json', '[]'],
      ['parse/json', 'null'],
      ['parse/json', ''],
      ['parse/json', snp.replace('"version": 1', '"version": 3')],
      ['parse/json', snp.replace('"version": 1,', '')],
      ['parse/json', snp.replace('"version": 1', '"version": 1, "more": 1')],
      ['parse/duplicate', snp.replace('"version": 1', '"version": 1, "version": 1')],
      ['parse/json', snp.replace('"version": 1', '"version": 1, "td_quote": "AAAA"')],
      ['parse/unsupported-tee', tdx.replace('"td_quote"', '"vcek"')],
      ['parse/json', snp.replace(/"pcrs": \[\s*"[0-9a-f]{64}",/, '"pcrs": [')],
      ['parse/json', snp.replace(/"pcrs": \[\s*"[0-9a-f]/, '"pcrs": ["')],
      ['parse/json', snp.replace('"hcl_report": "S', '"hcl_report": "+')],
      ['parse/json', snp.replace('"hcl_report": "', '"hcl_report": "A')],
      ['parse/json', snp.replace(/"message": "../, '"message": "zz')],
      ['evidence/tpm-magic', snp.replace(/"message": "ff/, '"message": "fe')],
      ['parse/length', `${snp}${' '.repeat(300_000)}`],
      ['parse/length', '['.repeat(100_000) + ']'.repeat(100_000)],
    ];
    for (const [reason, text] of cases) expect([reason, await parse(text)]).toEqual([reason, [reason]]);
  });

  test('members that look like a prototype are refused as unknown', async () => {
    for (const name of ['__proto__', 'constructor', 'toString', 'hasOwnProperty'])
      expect(await parse(read('az-snp.tpm-quote').replace('{', `{"${name}": {"pcrs": []},`))).toEqual(['parse/json']);
  });

  test('any text is parsed or refused as malformed', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...files),
        fc.nat(8000),
        fc.nat(20),
        fc.oneof(fc.string({ maxLength: 8 }), fc.json({ maxDepth: 2 }), fc.constantFrom('"', '{', '[', '\\', '0')),
        async (name, at, cut, insert) => {
          const text = read(name);
          await parse(text.slice(0, at) + insert + text.slice(at + cut));
        },
      ),
      { numRuns: 400 },
    );
  });
});

describe('small things', () => {
  test('fill is one of two bytes, all through', () => {
    const bytes = (hex: string) => fromHex(hex);
    expect(['', '00', '0000', 'ff', 'ffff'].map((hex) => isFill(bytes(hex)))).toEqual(Array(5).fill(true));
    expect(['01', '00ff', 'ff00', '000001'].map((hex) => isFill(bytes(hex)))).toEqual(Array(4).fill(false));
  });

  test('a GCE instance is whole', async () => {
    const instance = fromHex('300f0c017a0201050c01700201070c016e');
    expect(parseGceInstance(instance)).toMatchObject({ zone: 'z', projectNumber: '5', isProduction: false });
    for (let length = 0; length < instance.length; length++)
      expect(await reasonsOf(async () => void parseGceInstance(instance.subarray(0, length)))).toHaveLength(1);
    const huge = fromHex('30170c017a0209010000000000000000' + '0c01700201070c016e');
    expect(await reasonsOf(async () => void parseGceInstance(huge))).toEqual(['parse/der']);
  });
});
