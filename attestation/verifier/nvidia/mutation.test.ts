import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CfnError, fromUtf8 } from '../../../proto/index.ts';
import { parseGpuReport, parseNvidiaReport } from '../../evidence/nvidia.ts';
import { parseOcspResponse } from '../../evidence/ocsp.ts';
import { parsePemChain } from '../../evidence/x509.ts';
import { parseXml } from '../../evidence/xml.ts';
import { canonicalize } from '../../evidence/xml-canonical.ts';
import { chainOf, h100, judge, vector, DRIVER_RIM, VBIOS_RIM } from './nvidia.fixture.ts';
import { createRimCache } from './rim-cache.ts';
import type { NvidiaEvidence } from './verify.ts';

const REPORT = vector('reports/h100-550.90.07.bin');
const SWITCH = vector('reports/ls10-switch.bin');
const CHAIN = fromUtf8(vector('chains/h100-550.90.07.pem'));
const RIM = vector(DRIVER_RIM);
const OCSP = ['gpu_driver_rim_l4', 'gpu_driver_rim_l3', 'gpu_rim_l2', 'gpu_vbios_l4'].map((file) =>
  vector(`ocsp/${file}.der`),
);
/** RIMs that are unchanged need not be verified each time. */
const rimCache = createRimCache();

/** Flips bits, cuts, extends, overwrites and repeats parts of `bytes`; what comes is always another text. */
function mutated(bytes: Uint8Array): fc.Arbitrary<Uint8Array> {
  const at = fc.nat({ max: bytes.length - 1 });
  const flip = fc.tuple(at, fc.nat({ max: 7 })).map(([i, bit]) => {
    const copy = bytes.slice();
    copy[i] = (copy[i] ?? 0) ^ (1 << bit);
    return copy;
  });
  const cut = at.map((length) => bytes.slice(0, length));
  const extend = fc.uint8Array({ minLength: 1, maxLength: 40 }).map((more) => Uint8Array.from([...bytes, ...more]));
  const overwrite = fc.tuple(at, fc.uint8Array({ minLength: 1, maxLength: 8 })).map(([i, more]) => {
    const copy = bytes.slice();
    copy.set(more.subarray(0, copy.length - i), i);
    return copy;
  });
  const repeat = fc
    .tuple(at, at)
    .map(([i, j]) => Uint8Array.from([...bytes.subarray(0, Math.max(i, j)), ...bytes.subarray(Math.min(i, j))]));
  return fc
    .oneof({ weight: 4, arbitrary: flip }, cut, extend, overwrite, repeat)
    .filter((copy) => Buffer.compare(copy, bytes) !== 0);
}

/** Either it cannot be parsed, with an error of ours, or the findings refuse it. */
async function requireRefused(make: () => Partial<NvidiaEvidence>): Promise<void> {
  try {
    const { reasons } = await judge(h100({ rimCache, ...make() }));
    expect(reasons).not.toEqual([]);
  } catch (error) {
    expect(error).toBeInstanceOf(CfnError);
  }
}

describe('a mutation is refused', () => {
  const [gpu] = h100().gpus;
  if (gpu === undefined) throw new RangeError('the fixture has a GPU');

  test('of the report, but for the zero that may follow it', async () => {
    await fc.assert(
      fc.asyncProperty(mutated(REPORT), async (bytes) => {
        fc.pre(
          !(
            bytes.length === REPORT.length + 1 &&
            bytes.at(-1) === 0 &&
            Buffer.compare(bytes.subarray(0, -1), REPORT) === 0
          ),
        );
        await requireRefused(() => ({ gpus: [{ ...gpu, report: parseGpuReport(bytes) }] }));
      }),
      { numRuns: 250 },
    );
  });

  test('of each byte of the request and of the lengths', async () => {
    for (let at = 0; at < 46; at++) {
      const bytes = REPORT.slice();
      bytes[at] = (bytes[at] ?? 0) ^ 0x10;
      await requireRefused(() => ({ gpus: [{ ...gpu, report: parseGpuReport(bytes) }] }));
    }
  });

  test('of a certificate of the chain', async () => {
    const chain = chainOf('chains/h100-550.90.07.pem');
    const index = fc.nat({ max: chain.length - 1 });
    await fc.assert(
      fc.asyncProperty(
        index.chain((i) => fc.tuple(fc.constant(i), mutated(chain[i]?.der ?? new Uint8Array()))),
        async ([i, der]) => {
          const pem = (bytes: Uint8Array): string =>
            `-----BEGIN CERTIFICATE-----\n${Buffer.from(bytes).toString('base64')}\n-----END CERTIFICATE-----\n`;
          const text = chain.map((certificate, at) => pem(at === i ? der : certificate.der)).join('');
          await requireRefused(() => ({ gpus: [{ ...gpu, chain: parsePemChain(text) }] }));
        },
      ),
      { numRuns: 150 },
    );
  });

  test('of the order or number of the certificates', async () => {
    const chain = chainOf('chains/h100-550.90.07.pem');
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat({ max: 4 }), { maxLength: 7 }), async (order) => {
        fc.pre(order.join() !== '0,1,2,3,4');
        await requireRefused(() => ({ gpus: [{ ...gpu, chain: order.flatMap((i) => chain[i] ?? []) }] }));
      }),
      { numRuns: 100 },
    );
  });

  test('of a RIM, but for the writing of what is not signed', async () => {
    await fc.assert(
      fc.asyncProperty(mutated(RIM), async (bytes) => {
        fc.pre(!isSameDocument(bytes, RIM));
        await requireRefused(() => ({ rims: [bytes, vector(VBIOS_RIM)] }));
      }),
      { numRuns: 300 },
    );
  });

  test('of each golden value, version and product of a RIM', async () => {
    const text = fromUtf8(RIM);
    const spots = [
      ...text.matchAll(/Hash\d+="(?=[^0])|colloquialVersion="|product="|active="|index="|size="|alternatives="/g),
    ];
    expect(spots.length).toBeGreaterThan(200);
    for (const spot of spots.filter((_, i) => i % 9 === 0)) {
      const bytes = RIM.slice();
      const at = spot.index + spot[0].length;
      bytes[at] = (bytes[at] ?? 0) ^ 1;
      await requireRefused(() => ({ rims: [bytes, vector(VBIOS_RIM)] }));
    }
  });

  test('of an OCSP response', async () => {
    const index = fc.nat({ max: OCSP.length - 1 });
    await fc.assert(
      fc.asyncProperty(
        index.chain((i) => fc.tuple(fc.constant(i), mutated(OCSP[i] ?? new Uint8Array()))),
        async ([i, der]) => {
          await requireRefused(() => ({ ocsp: OCSP.map((bytes, at) => parseOcspResponse(at === i ? der : bytes)) }));
        },
      ),
      { numRuns: 200 },
    );
  });

  test('parsers throw errors of ours alone', () => {
    const parsers = [
      [REPORT, parseNvidiaReport],
      [SWITCH, parseNvidiaReport],
      [OCSP[0] ?? REPORT, parseOcspResponse],
      [new TextEncoder().encode(CHAIN), (bytes: Uint8Array) => parsePemChain(fromLatin1(bytes))],
    ] as const;
    for (const [bytes, parse] of parsers)
      fc.assert(
        fc.property(mutated(bytes), (copy) => {
          try {
            parse(copy);
          } catch (error) {
            expect(error).toBeInstanceOf(CfnError);
          }
        }),
        { numRuns: 500 },
      );
  });
});

/** One canonical form, but for white space in the base64 of what is in no signature. */
function isSameDocument(a: Uint8Array, b: Uint8Array): boolean {
  const normal = (bytes: Uint8Array): string =>
    fromUtf8(canonicalize(parseXml(bytes))).replaceAll(
      /(?<=<ds:(?:X509Certificate|SignatureValue|DigestValue)>)[^<]*/g,
      (value) => value.replaceAll(/\s/g, ''),
    );
  try {
    return normal(a) === normal(b);
  } catch {
    return false;
  }
}

function fromLatin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1');
}
