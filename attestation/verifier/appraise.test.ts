import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import fc from 'fast-check';
import {
  CfnError,
  NO_ENDORSEMENTS,
  fromBase64url,
  toBase64url,
  toHex,
  type ErrorCode,
  type Evidence,
} from '../../proto/index.ts';
import { appraisalFixture, flip, withGpu, withQuote, workerKeys } from '../appraisal.fixture.ts';
import { openSimulatedPlatform, simulatedAttester, simulatedPolicy } from '../insecure/index.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import { writeGpuReport } from '../insecure/gpu-report.ts';
import { toPem } from '../insecure/certificates.ts';
import type { Reason } from '../evidence/reasons.ts';
import { appraise, AppraisalRefused, parsePolicy, parseWorkerPolicy, type AppraisalPolicy } from './index.ts';

let fixture: Awaited<ReturnType<typeof appraisalFixture>>;
beforeAll(async () => {
  fixture = await appraisalFixture();
});
afterAll(() => fixture.close());

/** The code of the first refusal; what is no CfnError fails the test. */
async function refusal(
  evidence: Evidence,
  changes: Partial<Parameters<typeof appraise>[1]> = {},
): Promise<ErrorCode | 'accepted'> {
  const { nonce, now, policy } = fixture;
  try {
    await appraise(evidence, { nonce, now, policy, ...changes });
    return 'accepted';
  } catch (error) {
    if (!(error instanceof CfnError)) throw error;
    return error.code;
  }
}

/** All reasons of a refusal, in check order. */
async function reasons(
  evidence: Evidence,
  changes: Partial<Parameters<typeof appraise>[1]> = {},
): Promise<readonly Reason[]> {
  const { nonce, now, policy } = fixture;
  try {
    await appraise(evidence, { nonce, now, policy, ...changes });
    return [];
  } catch (error) {
    if (!(error instanceof AppraisalRefused)) throw error;
    return error.findings.flatMap((finding) => (finding.outcome === 'failed' ? [finding.reason] : []));
  }
}

/** A policy whose demands on the TEE differ in some fields. */
const altered = (changes: object): AppraisalPolicy =>
  parsePolicy({ ...fixture.policy, tee: { ...fixture.policy.tee, ...changes } });
const gpuPolicy = (changes: object): AppraisalPolicy =>
  parsePolicy({ ...fixture.policy, gpu: { ...fixture.policy.gpu, ...changes } });
const otherHex = 'ab'.repeat(48);

describe('accepts', () => {
  test('simulated evidence under its own policy, and says what it checked and skipped', async () => {
    const { evidence, nonce, now, policy, mrtd, keys } = fixture;
    const result = await appraise(evidence, { nonce, policy, now });
    expect(result).toMatchObject({ tee: 'simulated', simulated: true, binding: 'one-report' });
    expect(result.claims).toMatchObject({ tdx: { mrtd: toHex(mrtd), tcb: null }, snp: undefined, switches: [] });
    expect(result.workerKeysBytes).toEqual(new Uint8Array(keys));
    expect(result.claims.gpus).toMatchObject([
      {
        family: 'HOPPER',
        device: 'SIMULATED GH100 A01 GSP FMC LF',
        driver: 'SIMULATED',
        vbios: '00.00.00.00.01',
      },
    ]);
    const of = (outcome: string): string[] =>
      result.findings.filter((finding) => finding.outcome === outcome).map(({ check }) => check);
    expect(of('failed')).toEqual([]);
    expect(of('passed')).toEqual(
      expect.arrayContaining([
        'nonce',
        'quote: signature',
        'quoting enclave: identity',
        'MRTD',
        "GPU 0 (policy's values) measurements",
        'binding: report data',
        'binding: GPU nonce',
        'binding: level',
      ]),
    );
    expect(of('skipped')).toEqual(expect.arrayContaining(['collateral', 'TD: service TDs']));
    for (const finding of result.findings)
      if (finding.outcome === 'skipped') expect(finding.detail, finding.check).not.toBe('');
  });

  test('a worker without GPU, when the policy requires none', async () => {
    const { platform, mrtd, nonce, now, keys } = fixture;
    const evidence = await simulatedAttester(platform, { mrtd, gpu: false }).collect(nonce, keys);
    const result = await appraise(evidence, {
      nonce,
      now,
      policy: await simulatedPolicy(platform, { mrtd, gpu: false }),
    });
    expect(result.findings).toContainEqual({
      check: 'GPUs',
      outcome: 'skipped',
      detail: 'simulated worker without GPU',
    });
    expect(await reasons(evidence)).toEqual(['policy/gpu-count', 'binding/level']);
  });

  test('bytes after the quote, which nothing signs', async () => {
    const padded = withQuote(fixture.evidence, (quote) => Uint8Array.from([...quote, 0, 0, 1]));
    expect(await refusal(padded)).toBe('accepted');
  });
});

describe('INV-02 refuses the wrong', () => {
  test('nonce', async () => {
    expect(await refusal(fixture.evidence, { nonce: new Uint8Array(32) })).toBe('CFN_NONCE_MISMATCH');
    const claimed = { ...fixture.evidence, nonce: toBase64url(new Uint8Array(32)) };
    expect(await refusal(claimed, { nonce: new Uint8Array(32) })).toBe('CFN_REPORT_DATA_MISMATCH');
    expect(await refusal(fixture.evidence, { nonce: new Uint8Array() })).toBe('CFN_INPUT_INVALID');
  });

  test('worker keys', async () => {
    const other = toBase64url(workerKeys('2026-11-02T00:00:00Z', 2));
    expect(await refusal({ ...fixture.evidence, workerKeys: other })).toBe('CFN_REPORT_DATA_MISMATCH');
  });

  test('worker keys that have expired', async () => {
    expect(await refusal(fixture.evidence, { now: new Date('2026-11-02T00:00:01Z') })).toBe('CFN_WORKER_KEYS_EXPIRED');
  });

  test('INV-04 TEE kind, both ways', async () => {
    if (fixture.policy.tee.kind !== 'simulated') throw new Error('the fixture is simulated');
    const { root: _, ...demands } = fixture.policy.tee;
    const tee = { ...demands, kind: 'tdx', collateral: { notChecked: 'test' } };
    const real = parseWorkerPolicy({ ...fixture.policy, tee, gpu: { notRequired: 'test' } });
    expect(await refusal(fixture.evidence, { policy: real })).toBe('CFN_TEE_REFUSED');
    expect(await refusal({ ...fixture.evidence, tee: 'tdx' })).toBe('CFN_TEE_REFUSED');
    expect(await refusal({ ...fixture.evidence, tee: 'snp' })).toBe('CFN_TEE_REFUSED');
    // Evidence that lies about its kind still ends at the wrong root.
    expect(await refusal({ ...fixture.evidence, tee: 'tdx' }, { policy: real })).toBe('CFN_CHAIN_UNTRUSTED');
  });

  test('root', async () => {
    const { directory, mrtd, nonce, keys } = fixture;
    const other = await openSimulatedPlatform(`${directory}/other`);
    const foreign = await simulatedAttester(other, { mrtd }).collect(nonce, keys);
    expect(await refusal(foreign)).toBe('CFN_CHAIN_UNTRUSTED');
    const mixed: AppraisalPolicy = { ...(await simulatedPolicy(other, { mrtd })), gpu: fixture.policy.gpu };
    expect(await refusal(foreign, { policy: mixed })).toBe('CFN_CHAIN_UNTRUSTED'); // the GPU's
  });

  test.each([
    'mrtd',
    'mrseam',
    'rtmr0',
    'rtmr1',
    'rtmr2',
    'rtmr3',
    'mrconfigid',
    'mrowner',
    'mrownerconfig',
    'mrservicetd',
  ] as const)('measurement %s, and an empty list', async (field) => {
    expect(await refusal(fixture.evidence, { policy: altered({ [field]: [otherHex] }) })).toBe(
      'CFN_MEASUREMENT_UNKNOWN',
    );
    expect(await refusal(fixture.evidence, { policy: altered({ [field]: [] }) })).toBe('CFN_MEASUREMENT_UNKNOWN');
  });

  test('debugging', async () => {
    const { platform, mrtd, nonce, keys } = fixture;
    const evidence = await simulatedAttester(platform, { mrtd, debug: true }).collect(nonce, keys);
    expect(await refusal(evidence)).toBe('CFN_DEBUG_ENABLED');
  });

  test('time: certificates not valid yet, expired, and no time at all', async () => {
    expect(await refusal(fixture.evidence, { now: new Date('2018-05-20T23:59:59Z') })).toBe('CFN_CHAIN_INVALID');
    expect(await refusal(fixture.evidence, { now: new Date('2050-01-01T00:00:00Z') })).toBe('CFN_CHAIN_INVALID');
    expect(await refusal(fixture.evidence, { now: new Date(Number.NaN) })).toBe('CFN_CHAIN_INVALID');
  });
});

describe('INV-02 refuses GPU evidence that is', () => {
  test('removed, doubled, or replaced', async () => {
    const { evidence, platform } = fixture;
    expect(await refusal({ ...evidence, gpus: [] })).toBe('CFN_REPORT_DATA_MISMATCH');
    expect(await refusal({ ...evidence, gpus: [...evidence.gpus, ...evidence.gpus] })).toBe('CFN_REPORT_DATA_MISMATCH');
    const report = toBase64url(await writeGpuReport(platform.gpu, new Uint8Array(32)));
    expect(await refusal(withGpu(evidence, (gpu) => ({ ...gpu, report })))).toBe('CFN_REPORT_DATA_MISMATCH');
  });

  test('bound by the quote, and wrong all the same', async () => {
    const { platform, nonce, keys, mrtd } = fixture;
    const stale = await evidenceWithGpus(async () => {
      const report = toBase64url(await writeGpuReport(platform.gpu, new Uint8Array(32)));
      return [{ arch: 'HOPPER', report, certificates: toPem(platform.gpu.certificates) }];
    });
    expect(await refusal(stale)).toBe('CFN_NONCE_MISMATCH');
    const doubled = await evidenceWithGpus(async (gpuNonce) => {
      const report = toBase64url(await writeGpuReport(platform.gpu, gpuNonce));
      const gpu = { arch: 'HOPPER', report, certificates: toPem(platform.gpu.certificates) } as const;
      return [gpu, gpu];
    });
    expect(await refusal(doubled)).toBe('CFN_GPU_EVIDENCE');
    const mislabelled = await evidenceWithGpus(async (gpuNonce) => {
      const report = toBase64url(await writeGpuReport(platform.gpu, gpuNonce));
      return [{ arch: 'BLACKWELL', report, certificates: toPem(platform.gpu.certificates) }];
    });
    expect(await refusal(mislabelled)).toBe('CFN_GPU_EVIDENCE');
    const altered = await evidenceWithGpus(async (gpuNonce) => {
      const report = await writeGpuReport(platform.gpu, gpuNonce);
      flip(report, 37 + 8 + 7); // the first block's value
      return [{ arch: 'HOPPER', report: toBase64url(report), certificates: toPem(platform.gpu.certificates) }];
    });
    expect(await refusal(altered)).toBe('CFN_GPU_EVIDENCE');
    expect(await reasons(altered)).toContain('evidence/gpu-report-signature');

    async function evidenceWithGpus(collect: (gpuNonce: Uint8Array) => Promise<Evidence['gpus']>): Promise<Evidence> {
      const { assembleEvidence } = await import('../attester/assemble.ts');
      const { simulatedMeasurements, startQuotingEnclave, writeQuote } = await import('../insecure/quote.ts');
      const { rtmrs } = await simulatedMeasurements();
      const enclave = await startQuotingEnclave(platform.pck);
      return assembleEvidence('simulated', nonce, keys, {
        collectGpus: collect,
        quoteOver: async (data) => ({
          quote: await writeQuote(enclave, { mrtd, rtmrs, debug: false }, data),
          endorsements: NO_ENDORSEMENTS,
        }),
      });
    }
  });

  test.each([
    ['too few', { countMin: 2, countMax: 2 }, 'CFN_GPU_EVIDENCE'],
    ['of another architecture', { architectures: ['BLACKWELL'] }, 'CFN_GPU_EVIDENCE'],
    ['of no accepted architecture', { architectures: [] }, 'CFN_GPU_EVIDENCE'],
    ['of another driver', { driver: { oneOf: ['550.90.07'] } }, 'CFN_MEASUREMENT_UNKNOWN'],
    ['of another VBIOS', { vbios: { oneOf: [] } }, 'CFN_MEASUREMENT_UNKNOWN'],
    ['without reference values', { measurements: { values: {} } }, 'CFN_ENDORSEMENT_INVALID'],
    ['unlike a reference value', { measurements: { values: { '5': [otherHex] } } }, 'CFN_MEASUREMENT_UNKNOWN'],
    ['lacking an index', { measurements: { values: { '64': [otherHex] } } }, 'CFN_MEASUREMENT_UNKNOWN'],
    ['under an empty list', { measurements: { values: { '5': [] } } }, 'CFN_MEASUREMENT_UNKNOWN'],
  ] as const)('%s', async (_name, changes, code) => {
    expect(await refusal(fixture.evidence, { policy: gpuPolicy(changes) })).toBe(code);
  });
});

describe('refuses altered bytes', () => {
  /** Offsets in a quote of version 4. */
  const quoteFields: readonly [string, number, ErrorCode][] = [
    ['version', 0, 'CFN_EVIDENCE_MALFORMED'],
    ['user data', 30, 'CFN_QUOTE_SIGNATURE'],
    ['MRTD', 48 + 136, 'CFN_QUOTE_SIGNATURE'],
    ['report data', 48 + 520, 'CFN_QUOTE_SIGNATURE'],
    ['quote signature', 636, 'CFN_QUOTE_SIGNATURE'],
    ['attestation key', 636 + 64, 'CFN_QE_BINDING'],
    ['certification type', 636 + 128, 'CFN_EVIDENCE_MALFORMED'],
    ['QE report', 770, 'CFN_QE_BINDING'],
    ['QE report data', 770 + 320, 'CFN_QE_BINDING'],
    ['QE report signature', 770 + 384, 'CFN_QE_BINDING'],
    ['QE authentication data', 770 + 450, 'CFN_QE_BINDING'],
  ];
  test.each(quoteFields)('%s', async (_name, at, code) => {
    expect(await refusal(withQuote(fixture.evidence, (quote) => flip(quote, at)))).toBe(code);
  });

  test('any one bit of the quote', async () => {
    const { length } = fromBase64url(fixture.evidence.quote);
    await fc.assert(
      fc.asyncProperty(fc.nat(length - 1), fc.nat(7), async (at, bit) => {
        const evidence = withQuote(fixture.evidence, (quote) => void (quote[at] = (quote[at] ?? 0) ^ (1 << bit)));
        // PEM has insignificant characters: another white space, or the NUL at the end, changes no certificate.
        const same = toHex(signedParts(evidence)) === toHex(signedParts(fixture.evidence));
        expect(same || (await refusal(evidence)) !== 'accepted').toBe(true);
      }),
      { numRuns: 200 },
    );
  });

  test('any one bit of the GPU report or its chain', async () => {
    await fc.assert(
      fc.asyncProperty(fc.double({ min: 0, max: 0.9999, noNaN: true }), fc.boolean(), async (where, inChain) => {
        const evidence = withGpu(fixture.evidence, (gpu) => {
          const bytes = inChain ? new TextEncoder().encode(gpu.certificates) : fromBase64url(gpu.report);
          flip(bytes, Math.floor(where * bytes.length));
          return inChain
            ? { ...gpu, certificates: new TextDecoder().decode(bytes) }
            : { ...gpu, report: toBase64url(bytes) };
        });
        expect(await refusal(evidence)).not.toBe('accepted');
      }),
      { numRuns: 100 },
    );
  });

  test('quote cut short anywhere', async () => {
    const bytes = fromBase64url(fixture.evidence.quote);
    const lengths = [
      ...Array.from({ length: 50 }, (_, i) => Math.floor((i * bytes.length) / 50)),
      bytes.length - 1,
    ].slice(1);
    for (const length of lengths) {
      expect(await refusal(withQuote(fixture.evidence, (quote) => quote.slice(0, length)))).toBe(
        'CFN_EVIDENCE_MALFORMED',
      );
    }
  });

  test('GPU report and chain cut short anywhere', async () => {
    for (let i = 1; i < 50; i++) {
      const cut = (length: number): number => Math.floor((i * length) / 50);
      const report = withGpu(fixture.evidence, (gpu) => {
        const bytes = fromBase64url(gpu.report);
        return { ...gpu, report: toBase64url(bytes.subarray(0, cut(bytes.length))) };
      });
      expect(await refusal(report)).toBe('CFN_EVIDENCE_MALFORMED');
      const chain = withGpu(fixture.evidence, (gpu) => ({
        ...gpu,
        certificates: gpu.certificates.slice(0, cut(gpu.certificates.length)),
      }));
      expect(['CFN_EVIDENCE_MALFORMED', 'CFN_REPORT_DATA_MISMATCH']).toContain(await refusal(chain));
    }
  });

  test('documents that are none', async () => {
    const { evidence } = fixture;
    expect(await refusal({ ...evidence, workerKeys: toBase64url(new Uint8Array(3)) })).toBe('CFN_EVIDENCE_MALFORMED');
    expect(await refusal({ ...evidence, quote: 'A' })).toBe('CFN_EVIDENCE_MALFORMED');
    expect(await refusal({ ...evidence, quote: '' })).toBe('CFN_EVIDENCE_MALFORMED');
    expect(await refusal({ ...evidence, nonce: 'AB' })).toBe('CFN_EVIDENCE_MALFORMED'); // not canonical
  });
});

test('all refusals are in the message, the first one gives the code', async () => {
  const policy = altered({ mrtd: [], rtmr2: [otherHex] });
  const error = await appraise(fixture.evidence, { ...fixture, policy }).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: 'CFN_MEASUREMENT_UNKNOWN' });
  expect(String(error)).toMatch(/MRTD .* is not a reference value; RTMR2 .* is not a reference value/);
});

function signedParts(evidence: Evidence): Uint8Array {
  try {
    const quote = parseTdxQuote(fromBase64url(evidence.quote));
    const { signedBytes, signature, attestationKey, qeReport, qeReportSignature, qeAuthenticationData, pckChain } =
      quote;
    const parts = [signedBytes, signature, attestationKey, qeReport.bytes, qeReportSignature, qeAuthenticationData];
    return Uint8Array.from([...parts, ...pckChain.map(({ der }) => der)].flatMap((part) => [...part]));
  } catch {
    return new Uint8Array();
  }
}
