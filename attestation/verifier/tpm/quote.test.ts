import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { concatBytes, fromHex, toHex, utf8 } from '../../../proto/index.ts';
import { parseHclReport } from '../../evidence/azure-hcl.ts';
import { parseTpmEvidence } from '../../evidence/tpm-evidence-json.ts';
import { parseTpmQuote, parseTpmSignature, type PcrValues, type SignedTpmQuote } from '../../evidence/tpm.ts';
import { Findings } from '../findings.ts';
import { verifyTpmQuote, type TpmQuoteInput } from './quote.ts';
import {
  attest,
  attestationKey,
  digestOf,
  pcrValues,
  reasonsOf,
  sized,
  u16,
  vector,
  vectorText,
  type AttestationKeyKind,
} from './tpm.fixture.ts';

const nonce = utf8('challenge');
const references = { notChecked: 'not of this test' };

function verify(input: Omit<TpmQuoteInput, 'nonce' | 'references'> & Partial<TpmQuoteInput>) {
  return reasonsOf((findings) => verifyTpmQuote({ nonce, references, ...input }, findings));
}

/** `az-snp.tpm-quote.json` and the key of the HCL report beside it. */
function azureQuote(): { evidence: SignedTpmQuote; attestationKey: TpmQuoteInput['attestationKey'] } {
  return {
    evidence: parseTpmEvidence(vectorText('tpm/az-snp.tpm-quote.json')).quote,
    attestationKey: parseHclReport(vector('tpm/az-snp.hcl-report.bin')).attestationKey,
  };
}

function changePcr(pcrs: PcrValues, index: number): PcrValues {
  return new Map(
    [...pcrs].map(([hash, values]) => {
      const value = Uint8Array.from(values.get(index) ?? []);
      value[0] = (value[0] ?? 0) ^ 1;
      return [hash, new Map([...values, [index, value]])];
    }),
  );
}

describe('recorded quotes', () => {
  test('case az-snp-quote: accepted', async () => {
    expect(await verify(azureQuote())).toEqual([]);
  });

  test('case az-snp-wrong-nonce: refused', async () => {
    expect(await verify({ ...azureQuote(), nonce: utf8('another') })).toEqual(['binding/nonce-mismatch']);
    expect(await verify({ ...azureQuote(), nonce: utf8('challengf') })).toEqual(['binding/nonce-mismatch']);
  });

  test('case az-snp-wrong-pcr: refused, whichever it is', async () => {
    const { evidence, attestationKey } = azureQuote();
    for (let index = 0; index < 24; index++) {
      const changed = { ...evidence, pcrs: changePcr(evidence.pcrs, index) };
      expect(await verify({ evidence: changed, attestationKey })).toEqual(['evidence/pcr-digest']);
    }
  });

  test('case plain-tpm: accepted as a quote, with 64 bytes of nonce', async () => {
    const evidence = parseTpmEvidence(vectorText('tpm/tpm-evidence.json'));
    if (evidence.kind !== 'tpm') throw new Error(evidence.kind);
    const { quote, attestationKey } = evidence;
    if ('attributes' in attestationKey) throw new Error('a public area');
    expect(quote.signature).toMatchObject({ scheme: 'rsassa', hash: 'SHA-256' });
    expect(quote.quote.extraData.length).toBe(64);
    expect(await verify({ evidence: quote, attestationKey, nonce: quote.quote.extraData })).toEqual([]);
    const findings = new Findings();
    await verifyTpmQuote({ evidence: quote, attestationKey, nonce: { notChecked: 'unknown' }, references }, findings);
    expect(findings.list).toContainEqual({ check: 'TPM nonce equality', outcome: 'skipped', detail: 'unknown' });
  });

  test('refuses another key, and names every reason', async () => {
    const { attestationKey: other } = parseHclReport(
      fromBase64(JSON.parse(vectorText('tpm/az-tdx-evidence-v1.json')).hcl_report),
    );
    expect(await verify({ ...azureQuote(), attestationKey: other })).toEqual(['evidence/tpm-signature']);
    const { evidence } = azureQuote();
    const worst = { evidence: { ...evidence, pcrs: changePcr(evidence.pcrs, 4) }, attestationKey: other };
    expect(await verify({ ...worst, nonce: utf8('another') })).toEqual([
      'evidence/tpm-signature',
      'binding/nonce-mismatch',
      'evidence/pcr-digest',
    ]);
  });

  test('refuses an expected nonce that is empty', async () => {
    expect(await verify({ ...azureQuote(), nonce: new Uint8Array() })).toEqual(['binding/nonce-empty']);
  });

  test('claims what the quote says', async () => {
    const claims = await verifyTpmQuote({ ...azureQuote(), nonce, references }, new Findings());
    expect(claims).toMatchObject({ nonce: toHex(nonce), clockSafe: true, firmwareVersion: '2020031200120003' });
    expect(Object.keys(claims.pcrs['SHA-256'] ?? {})).toHaveLength(24);
    expect(JSON.parse(JSON.stringify(claims))).toEqual(claims);
  });
});

describe('references', () => {
  const at = (index: number): string => {
    const value = azureQuote().evidence.pcrs.get('SHA-256')?.get(index);
    return value === undefined ? '' : toHex(value);
  };
  test('accepts a register whose value is listed', async () => {
    const accepted = ['00'.repeat(32), at(7)];
    expect(await verify({ ...azureQuote(), references: [{ hash: 'SHA-256', index: 7, accepted }] })).toEqual([]);
  });
  test('refuses another value, an empty list, and a register that is not quoted', async () => {
    for (const reference of [
      { hash: 'SHA-256', index: 7, accepted: [at(4)] },
      { hash: 'SHA-256', index: 7, accepted: [] },
      { hash: 'SHA-384', index: 7, accepted: [at(7)] },
      { hash: 'SHA-256', index: 24, accepted: [''] },
    ] as const)
      expect(await verify({ ...azureQuote(), references: [reference] })).toEqual(['policy/measurement']);
  });
  test('does not look at references when the values are not those of the quote', async () => {
    const { evidence, attestationKey } = azureQuote();
    const changed = { ...evidence, pcrs: changePcr(evidence.pcrs, 4) };
    const demand = [{ hash: 'SHA-256', index: 7, accepted: [] }] as const;
    expect(await verify({ evidence: changed, attestationKey, references: demand })).toEqual(['evidence/pcr-digest']);
  });
});

describe('synthetic quotes', () => {
  const kinds: readonly AttestationKeyKind[] = [
    { scheme: 'rsassa', hash: 'SHA-256' },
    { scheme: 'rsassa', hash: 'SHA-384' },
    { scheme: 'rsassa', hash: 'SHA-512' },
    { scheme: 'rsapss', hash: 'SHA-256', saltBytes: 32 },
    // The longest salt: 256 - 32 - 2.
    { scheme: 'rsapss', hash: 'SHA-256', saltBytes: 222 },
    { scheme: 'rsapss', hash: 'SHA-384', saltBytes: 48 },
    { scheme: 'ecdsa', hash: 'SHA-256', curve: 'P-256' },
    { scheme: 'ecdsa', hash: 'SHA-384', curve: 'P-384' },
    { scheme: 'ecdsa', hash: 'SHA-512', curve: 'P-384' },
  ];

  async function make(kind: AttestationKeyKind, options: Partial<Parameters<typeof attest>[0]> = {}) {
    const key = await attestationKey(kind);
    const pcrs = pcrValues('SHA-256');
    const message = attest({
      nonce,
      banks: [{ hash: 'SHA-256', indexes: [0, 7, 23] }],
      digest: await digestOf(kind.hash, ...[0, 7, 23].map((index) => new Uint8Array(32).fill(index))),
      ...options,
    });
    return { key, pcrs, message, signature: await key.sign(message) };
  }

  test.each(kinds)('accepts $scheme with $hash', async (kind) => {
    const { key, pcrs, message, signature } = await make(kind);
    const evidence = { quote: parseTpmQuote(message), signature: parseTpmSignature(signature), pcrs };
    expect(await verify({ evidence, attestationKey: key.publicKey })).toEqual([]);
    const other = await attestationKey(kind);
    expect(await verify({ evidence, attestationKey: other.publicKey })).toEqual(['evidence/tpm-signature']);
  });

  test('refuses a key of another kind, and a scheme that the key did not use', async () => {
    const rsa = await make({ scheme: 'rsassa', hash: 'SHA-256' });
    const ec = await make({ scheme: 'ecdsa', hash: 'SHA-256', curve: 'P-256' });
    const quote = parseTpmQuote(rsa.message);
    const signed = (bytes: Uint8Array): SignedTpmQuote => ({
      quote,
      signature: parseTpmSignature(bytes),
      pcrs: rsa.pcrs,
    });
    const refused = ['evidence/tpm-signature'];
    expect(await verify({ evidence: signed(rsa.signature), attestationKey: ec.key.publicKey })).toEqual(refused);
    expect(await verify({ evidence: signed(ec.signature), attestationKey: rsa.key.publicKey })).toEqual(refused);
    const asPss = concatBytes(u16(0x16), rsa.signature.subarray(2));
    expect(await verify({ evidence: signed(asPss), attestationKey: rsa.key.publicKey })).toEqual(refused);
    const r48 = concatBytes(u16(0x18), u16(0x0b), sized(new Uint8Array(48).fill(1)), sized(new Uint8Array(48).fill(1)));
    expect(await verify({ evidence: signed(r48), attestationKey: ec.key.publicKey })).toEqual(refused);
  });

  test('hashes several banks in the order of the quote', async () => {
    const key = await attestationKey({ scheme: 'ecdsa', hash: 'SHA-256', curve: 'P-256' });
    const pcrs = pcrValues('SHA-1', 'SHA-256', 'SHA-384');
    const banks = [
      { hash: 'SHA-384', indexes: [1, 9] },
      { hash: 'SHA-256', indexes: [] },
      { hash: 'SHA-1', indexes: [16] },
    ] as const;
    const values = [new Uint8Array(48).fill(1), new Uint8Array(48).fill(9), new Uint8Array(20).fill(16)];
    for (const [order, expected] of [
      [values, []],
      [values.toReversed(), ['evidence/pcr-digest']],
    ] as const) {
      const message = attest({ nonce, banks, digest: await digestOf('SHA-256', ...order) });
      const signature = parseTpmSignature(await key.sign(message));
      const evidence = { quote: parseTpmQuote(message), signature, pcrs };
      expect(await verify({ evidence, attestationKey: key.publicKey })).toEqual(expected);
    }
  });

  test('refuses registers that did not come with the quote, and a quote of none', async () => {
    const kind = { scheme: 'ecdsa', hash: 'SHA-256', curve: 'P-256' } as const;
    const { key, message, signature } = await make(kind);
    const evidence = {
      quote: parseTpmQuote(message),
      signature: parseTpmSignature(signature),
      pcrs: pcrValues('SHA-384'),
    };
    expect(await verify({ evidence, attestationKey: key.publicKey })).toEqual(['evidence/pcr-digest']);
    const none = await make(kind, { banks: [], digest: await digestOf('SHA-256') });
    const empty = { quote: parseTpmQuote(none.message), signature: parseTpmSignature(none.signature), pcrs: none.pcrs };
    expect(await verify({ evidence: empty, attestationKey: none.key.publicKey })).toEqual(['evidence/pcr-digest']);
  });

  test('refuses an empty nonce, also where none is expected', async () => {
    const { key, pcrs, message, signature } = await make(
      { scheme: 'ecdsa', hash: 'SHA-256', curve: 'P-256' },
      { nonce: new Uint8Array() },
    );
    const evidence = { quote: parseTpmQuote(message), signature: parseTpmSignature(signature), pcrs };
    const refused = ['binding/nonce-empty'];
    expect(await verify({ evidence, attestationKey: key.publicKey })).toEqual(refused);
    expect(await verify({ evidence, attestationKey: key.publicKey, nonce: new Uint8Array() })).toEqual(refused);
    expect(await verify({ evidence, attestationKey: key.publicKey, nonce: { notChecked: 'x' } })).toEqual(refused);
  });

  test('refuses what a TPM signed that is no quote, and what no TPM made', async () => {
    for (const options of [{ magic: 0xff544348 }, { type: 0x8017 }, { type: 0x8014 }]) {
      const { message } = await make({ scheme: 'ecdsa', hash: 'SHA-256', curve: 'P-256' }, options);
      expect(() => parseTpmQuote(message)).toThrow(expect.objectContaining({ reason: 'evidence/tpm-magic' }));
    }
  });
});

describe('mutations', () => {
  test('any change of a signed byte is refused, and so is any change of the signature', async () => {
    const { evidence, attestationKey } = azureQuote();
    const message = evidence.quote.signedBytes;
    const signature = 'bytes' in evidence.signature ? evidence.signature.bytes : new Uint8Array();
    await fc.assert(
      fc.asyncProperty(
        fc.nat(message.length + signature.length - 1),
        fc.integer({ min: 1, max: 255 }),
        async (at, bits) => {
          const bytes = concatBytes(message, signature);
          bytes[at] = (bytes[at] ?? 0) ^ bits;
          const reasons = await reasonsOf(async (findings) => {
            const quote = parseTpmQuote(bytes.subarray(0, message.length));
            const changed = parseTpmSignature(bytes.subarray(message.length));
            await verifyTpmQuote(
              { evidence: { ...evidence, quote, signature: changed }, attestationKey, nonce, references },
              findings,
            );
          });
          expect(reasons.length).toBeGreaterThan(0);
        },
      ),
      { numRuns: 400 },
    );
  });

  test('cut or longer bytes are refused', () => {
    const { signedBytes } = azureQuote().evidence.quote;
    for (let length = 0; length < signedBytes.length; length++)
      expect(() => parseTpmQuote(signedBytes.subarray(0, length))).toThrow(
        expect.objectContaining({ code: 'CFN_EVIDENCE_MALFORMED' }),
      );
    expect(() => parseTpmQuote(concatBytes(signedBytes, Uint8Array.of(0)))).toThrow(/left over/);
  });

  test('a signature is TPMT or bare, whole, and not over SHA-1', () => {
    const reason = (bytes: Uint8Array) => reasonsOf(async () => void parseTpmSignature(bytes));
    return Promise.all([
      expect(reason(fromHex('0014000400020000'))).resolves.toEqual(['parse/unsupported-algorithm']),
      expect(reason(fromHex('0015000b00020000'))).resolves.toEqual(['parse/unsupported-algorithm']),
      expect(reason(fromHex('0014000bffff'))).resolves.toEqual(['parse/length']),
      expect(reason(fromHex('0014000b0001000000'))).resolves.toEqual(['parse/length']),
      expect(reason(new Uint8Array())).resolves.toEqual(['parse/length']),
    ]);
  });
});

function fromBase64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, 'base64url'));
}
