import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { CfnError } from '../../proto/index.ts';
import { makeIntelAuthority } from '../testing/intel-authority.testkit.ts';
import { writeTdxQuote } from '../testing/tdx-quote.testkit.ts';
import { parseTdxQuote } from './tdx.ts';

const read = (name: string) =>
  new Uint8Array(readFileSync(new URL(`../vectors/tdx/quotes/${name}.bin`, import.meta.url)));
const v4 = read('v4-phala-b0c06f');
const v5 = read('v5-go-tdx-guest-90c06f');
const refused = (bytes: Uint8Array, reason: string) =>
  expect(() => parseTdxQuote(bytes)).toThrow(expect.objectContaining({ reason }));
const patched = (bytes: Uint8Array, at: number, ...values: number[]) => {
  const copy = bytes.slice();
  copy.set(values, at);
  return copy;
};

describe('parseTdxQuote', () => {
  test('reads version 4, and both bodies of version 5', async () => {
    expect(parseTdxQuote(v4)).toMatchObject({ version: 4, quoteBytes: v4.length - 70 });
    expect(parseTdxQuote(v5)).toMatchObject({ version: 5, quoteBytes: v5.length });
    const { pckChain } = await makeIntelAuthority();
    const report10 = parseTdxQuote(await writeTdxQuote(pckChain, { version: 5 })).report;
    expect(report10.teeTcbSvn2).toBeUndefined();
    const report15 = parseTdxQuote(await writeTdxQuote(pckChain, { version: 5, teeTcbSvn2: [7, 1] })).report;
    expect(report15.teeTcbSvn2?.[0]).toBe(7);
  });

  test.each([
    ['nothing', new Uint8Array(), 'parse/empty'],
    ['more than 64 KiB', new Uint8Array(64 * 1024 + 1), 'parse/length'],
    ['version 3 (SGX)', read('v3-sgx-phala'), 'parse/unsupported-tee'],
    ['version 4 of SGX', patched(v4, 4, 0), 'parse/unsupported-tee'],
    ['another TEE', patched(v4, 4, 0x82), 'parse/unsupported-tee'],
    ['version 6', patched(v4, 0, 6), 'parse/unsupported-version'],
    ['a P-384 attestation key', patched(v4, 2, 3), 'parse/unsupported-key-type'],
    ['another quoting enclave', patched(v4, 12, 0), 'parse/unsupported-vendor'],
    ['an SGX body', patched(v5, 48, 1), 'parse/unsupported-tee'],
    ['an unknown body', patched(v5, 48, 4), 'parse/unsupported-version'],
    ['a body of another size', patched(v5, 50, 0), 'parse/length'],
    ['a body of type 2 with the size of type 3', patched(v5, 48, 2), 'parse/length'],
    ['signature data past the end', patched(v4, 632, 0xff, 0xff), 'parse/truncated'],
    ['signature data of 4 GB', patched(v4, 632, 0xff, 0xff, 0xff, 0xff), 'parse/truncated'],
    ['signature data that ends early', patched(v4, 632, 1, 1), 'parse/length'],
    ['certification data of another type', patched(v4, 636 + 128, 5), 'parse/unsupported-certification'],
    ['a PCK certificate by name', patched(v4, 636 + 134 + 384 + 64 + 2 + 32, 3), 'parse/unsupported-certification'],
    ['authentication data past the end', patched(v4, 636 + 134 + 384 + 64, 0xff, 0xff), 'parse/length'],
    ['certification data that is no PEM', read('v4-intel-qvl-sample'), 'parse/pem'],
  ])('refuses %s', (_name, bytes, reason) => {
    refused(bytes, reason);
  });

  test('refuses every cut as one, and ignores what follows the signature data', () => {
    for (const quote of [v4, v5]) {
      const { quoteBytes } = parseTdxQuote(quote);
      for (let length = 1; length < quoteBytes; length++) refused(quote.subarray(0, length), 'parse/truncated');
      const padded = Uint8Array.from([...quote.subarray(0, quoteBytes), 1, 2, 3]);
      expect(parseTdxQuote(padded)).toEqual(parseTdxQuote(quote.subarray(0, quoteBytes)));
    }
  });

  let made: Uint8Array;
  beforeAll(async () => {
    made = await writeTdxQuote((await makeIntelAuthority()).pckChain, { version: 5, teeTcbSvn2: [] });
  });
  test('any change gives a quote or a refusal, never another error', () => {
    const arbitrary = fc.tuple(
      fc.constantFrom(v4, v5, made),
      fc.nat(9000),
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
    );
    fc.assert(
      fc.property(arbitrary, ([quote, at, patch]) => {
        const altered = quote.slice();
        const from = at % altered.length;
        altered.set(patch.subarray(0, altered.length - from), from);
        try {
          parseTdxQuote(altered);
        } catch (error) {
          expect(error).toBeInstanceOf(CfnError);
          expect(error).toHaveProperty('reason');
        }
      }),
      { numRuns: 3000 },
    );
  });
});
