import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CfnError } from '../../../proto/index.ts';
import { parseCrl } from '../../evidence/crl.ts';
import { parseCertificate, parsePemChain } from '../../evidence/x509.ts';
import { Findings } from '../findings.ts';
import { readVector } from './vectors.fixture.ts';
import { verifySnpReport } from './verify.ts';

const now = new Date('2026-01-15T00:00:00Z');
const [ask, ark] = parsePemChain(new TextDecoder().decode(readVector('chains/ask_ark_milan.pem'))).map(
  ({ der }) => der,
);
/** A genuine report and all that it needs. */
const parts = {
  report: readVector('reports/milan-v5-gcp-x25519.bin'),
  leaf: readVector('certs/milan-v5-gcp-x25519.vcek.der'),
  ask: ask ?? new Uint8Array(),
  ark: ark ?? new Uint8Array(),
  crl: readVector('crls/milan.crl.der'),
};
type Part = keyof typeof parts;

/** `undefined` when accepted; otherwise the reasons, or the code of a malformed input. Any other error goes on. */
async function refusal(inputs: typeof parts): Promise<readonly string[] | undefined> {
  const findings = new Findings();
  try {
    const certificates = [inputs.leaf, inputs.ask, inputs.ark].map((der) => parseCertificate(der));
    const crls = [parseCrl(inputs.crl)];
    await verifySnpReport({ report: inputs.report, certificates, crls, revocation: 'required', now }, findings);
  } catch (error) {
    if (!(error instanceof CfnError)) throw error;
    return [error.code];
  }
  const reasons = findings.failures.map(({ reason }) => reason);
  return reasons.length === 0 ? undefined : reasons;
}

test('the unchanged parts are accepted', async () => {
  expect(await refusal(parts)).toBeUndefined();
});

test('no byte of the report can change', { timeout: 60_000 }, async () => {
  for (let at = 0; at < parts.report.length; at++) {
    const report = Uint8Array.from(parts.report);
    report[at] = (report[at] ?? 0) ^ (1 << (at % 8));
    expect(await refusal({ ...parts, report }), `byte ${at}`).toBeDefined();
  }
});

describe.each<Part>(['report', 'leaf', 'ask', 'ark', 'crl'])('%s', (part) => {
  const original = parts[part];

  test('with bits flipped is refused', { timeout: 60_000 }, async () => {
    const flips = fc.uniqueArray(fc.nat(original.length * 8 - 1), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(flips, async (bits) => {
        const bytes = Uint8Array.from(original);
        for (const bit of bits) bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
        expect(await refusal({ ...parts, [part]: bytes })).toBeDefined();
      }),
      { numRuns: 150 },
    );
  });

  test('cut short or extended is refused', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.nat(original.length - 1),
        fc.uint8Array({ minLength: 1, maxLength: 80 }),
        async (end, more) => {
          expect(await refusal({ ...parts, [part]: original.subarray(0, end) })).toBeDefined();
          expect(await refusal({ ...parts, [part]: Uint8Array.from([...original, ...more]) })).toBeDefined();
        },
      ),
      { numRuns: 60 },
    );
  });

  test('with a run of bytes from elsewhere is refused, or is what it was', async () => {
    const splice = fc.record({
      donor: fc.constantFrom<Part>('report', 'leaf', 'ask', 'ark', 'crl'),
      from: fc.nat(800),
      to: fc.nat(original.length - 1),
      length: fc.integer({ min: 1, max: 64 }),
    });
    await fc.assert(
      fc.asyncProperty(splice, async ({ donor, from, to, length }) => {
        const bytes = Uint8Array.from(original);
        bytes.set(parts[donor].subarray(from, from + Math.min(length, bytes.length - to)), to);
        const same = bytes.every((byte, index) => byte === original[index]);
        expect((await refusal({ ...parts, [part]: bytes })) === undefined).toBe(same);
      }),
      { numRuns: 100 },
    );
  });
});

test('the other solution of the signature equation is a signature of the same report, and of no other', async () => {
  // ECDSA lets anybody turn (r, s) into (r, n − s); nothing may take a signature's bytes for an identity of the report.
  const order = BigInt(`0x${'f'.repeat(48)}c7634d81f4372ddf581a0db248b0a77aecec196accc52973`);
  const s = BigInt(`0x${Buffer.from(parts.report.slice(0x2e8, 0x318).toReversed()).toString('hex')}`);
  const other = Buffer.from((order - s).toString(16).padStart(96, '0'), 'hex').toReversed();
  const report = Uint8Array.from(parts.report);
  report.set(other, 0x2e8);
  expect(await refusal({ ...parts, report })).toBeUndefined();
  report[0x90] = (report[0x90] ?? 0) ^ 1;
  expect(await refusal({ ...parts, report })).toEqual(['evidence/report-signature']);
});
