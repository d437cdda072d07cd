import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { CfnError, fromBase64url, sha256, toHex, utf8, type Evidence } from '../../proto/index.ts';
import { workerKeys } from '../appraisal.fixture.ts';
import { parseJwks } from '../evidence/jwks.ts';
import { parseGpuReport } from '../evidence/nvidia.ts';
import type { Reason } from '../evidence/reasons.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import { parseTinfoilCapture } from '../evidence/tinfoil.ts';
import { parsePemChain } from '../evidence/x509.ts';
import { openSimulatedPlatform, simulatedAttester } from '../insecure/index.ts';
import { bindingLevel, requireLevel, type BindingLevel, type BindingParts } from './binding.ts';
import { Findings } from './findings.ts';
import { cfnBinding, nearBinding, teekitBinding, tinfoilBinding, trustAuthorityBinding } from './report-data.ts';
import { verifyNras, type NrasInput } from './tokens/nras.ts';
import { requireSameGpu } from './tokens/same-gpu.ts';
import { NRAS_INTERMEDIATES } from './trust-anchors.ts';

const refused = (reason: Reason) => expect.objectContaining({ reason }) as Error;

async function judge(parts: BindingParts): Promise<[BindingLevel, ...string[]]> {
  const findings = new Findings();
  const level = await bindingLevel(parts, findings);
  return [level, ...findings.failures.map(({ reason }) => reason)];
}

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const out = bytes.slice();
  out[at] = (out[at] ?? 0) ^ 1;
  return out;
}

describe('the level', () => {
  const nonce = new Uint8Array(32).fill(1);
  const keys = utf8('worker keys');
  const reportOf = async (covers: BindingParts['expected']['covers']): Promise<BindingParts> => {
    const expected = { ...(await cfnBinding(nonce, keys, [])), covers };
    return { reportData: expected.reportData, expected, gpuNonce: nonce, gpuNonces: [nonce, nonce] };
  };

  test('follows from what the report covers', async () => {
    expect(await judge(await reportOf(['nonce', 'gpu-evidence']))).toEqual(['one-report']);
    expect(await judge(await reportOf(['gpu-evidence']))).toEqual(['one-report']);
    expect(await judge(await reportOf(['nonce', 'channel-keys']))).toEqual(['same-nonce']);
    expect(await judge(await reportOf(['channel-keys']))).toEqual(['none']);
  });

  test('is none without GPUs, with one stale GPU, and for another report', async () => {
    const parts = await reportOf(['nonce', 'gpu-evidence']);
    expect(await judge({ ...parts, gpuNonces: [] })).toEqual(['none']);
    expect(await judge({ ...parts, gpuNonces: [nonce, new Uint8Array(32)] })).toEqual(['none', 'binding/gpu-nonce']);
    expect(await judge({ ...parts, gpuNonce: new Uint8Array(), gpuNonces: [new Uint8Array()] })).toEqual([
      'none',
      'binding/nonce-empty',
    ]);
    for (let at = 0; at < 64; at++)
      expect(await judge({ ...parts, reportData: flipped(parts.reportData, at) })).toEqual([
        'none',
        'binding/report-data',
      ]);
    expect(await judge({ ...parts, reportData: parts.reportData.subarray(0, 63) })).toEqual([
      'none',
      'binding/report-data',
    ]);
    expect(await judge({ ...parts, reportData: new Uint8Array() })).toEqual(['none', 'binding/report-data']);
  });

  test('compares the zeros behind a short digest', async () => {
    const capture = {
      platform: 'tdx',
      report: keys,
      tlsKeyFingerprint: nonce,
      hpkeKey: nonce,
      nonce,
      gpuText: '{}',
      switchText: undefined,
      gpus: [],
    } as const;
    const expected = await tinfoilBinding(capture, nonce);
    const parts = { reportData: expected.reportData, expected, gpuNonce: nonce, gpuNonces: [nonce] };
    expect([...expected.reportData.subarray(32)]).toEqual(Array.from({ length: 32 }, () => 0));
    expect(await judge(parts)).toEqual(['one-report']);
    expect(await judge({ ...parts, reportData: flipped(expected.reportData, 63) })).toEqual([
      'none',
      'binding/report-data',
    ]);
    expect(await judge({ ...parts, reportData: expected.reportData.subarray(0, 32) })).toEqual([
      'none',
      'binding/report-data',
    ]);
    // Its scheme cannot make 64 bytes of parts that are too short.
    const short = nearBinding(nonce, new Uint8Array(16));
    expect(await judge({ ...parts, expected: short, reportData: short.reportData })).toEqual([
      'none',
      'binding/report-data',
    ]);
  });

  test('a minimum is required by order', () => {
    requireLevel('one-report', 'same-nonce');
    requireLevel('same-nonce', 'same-nonce');
    requireLevel('none', 'none');
    expect(() => requireLevel('same-nonce', 'one-report')).toThrow(refused('binding/level'));
    expect(() => requireLevel('none', 'same-nonce')).toThrow(refused('binding/level'));
  });
});

describe('schemes', () => {
  test('ours, on the simulated platform: each part is bound', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'cfn-binding-'));
    const platform = await openSimulatedPlatform(directory);
    const nonce = new Uint8Array(32).fill(9);
    const keys = workerKeys('2026-11-02T00:00:00Z');
    const evidence = await simulatedAttester(platform, { mrtd: new Uint8Array(48).fill(7) }).collect(nonce, keys);
    try {
      const { reportData } = parseTdxQuote(fromBase64url(evidence.quote)).report;
      const gpuNonces = evidence.gpus.map(({ report }) => parseGpuReport(fromBase64url(report)).nonce);
      const [gpuNonce = new Uint8Array()] = gpuNonces;
      const judged = async (n: Uint8Array, k: Uint8Array, gpus: Evidence['gpus']) =>
        judge({ reportData, expected: await cfnBinding(n, k, gpus), gpuNonce, gpuNonces });
      expect(await judged(nonce, keys, evidence.gpus)).toEqual(['one-report']);
      const other = ['none', 'binding/report-data'];
      expect(await judged(flipped(nonce, 0), keys, evidence.gpus)).toEqual(other);
      expect(await judged(nonce, flipped(keys, 0), evidence.gpus)).toEqual(other);
      expect(await judged(nonce, keys, [])).toEqual(other);
      expect(await judged(nonce, keys, [...evidence.gpus, ...evidence.gpus])).toEqual(other);
    } finally {
      await rm(directory, { recursive: true });
    }
  });

  test('Intel Trust Authority, on the recorded quote of Google Cloud', async () => {
    const text = await readFile(
      new URL('../vectors/tokens/trust-authority-gcp-20250911.json', import.meta.url),
      'utf8',
    );
    const { tdx } = JSON.parse(text) as { tdx: { quote: string; verifier_nonce: { val: string; iat: string } } };
    const bytes = (base64: string) => new Uint8Array(Buffer.from(base64, 'base64'));
    const nonce = { value: bytes(tdx.verifier_nonce.val), issuedAt: bytes(tdx.verifier_nonce.iat) };
    const { reportData } = parseTdxQuote(bytes(tdx.quote)).report;
    const expected = await trustAuthorityBinding(nonce, new Uint8Array());
    expect(toHex(reportData)).toBe(toHex(expected.reportData));
    expect(expected.covers).toEqual(['nonce']);
    // Nothing there speaks of a GPU; one that answered the same nonce would be tied by that alone.
    const parts = { reportData, expected, gpuNonce: nonce.value, gpuNonces: [nonce.value] };
    expect(await judge(parts)).toEqual(['same-nonce']);
    expect(await judge({ ...parts, expected: await trustAuthorityBinding(nonce, utf8('key')) })).toEqual([
      'none',
      'binding/report-data',
    ]);
    expect((await trustAuthorityBinding(nonce, utf8('key'))).covers).toContain('channel-keys');
  });

  test('teekit and NEAR say nothing of GPUs', async () => {
    const nonce = new Uint8Array(32).fill(1);
    const expected = await teekitBinding(nonce, new Uint8Array(32));
    // SHA-512 of 32 bytes of one and 32 of zero, computed elsewhere.
    expect(toHex(expected.reportData)).toBe(SHA512_ONES_ZEROS);
    for (const binding of [expected, nearBinding(new Uint8Array(32).fill(2), nonce)])
      expect(
        await judge({ reportData: binding.reportData, expected: binding, gpuNonce: nonce, gpuNonces: [nonce] }),
      ).toEqual(['same-nonce']);
  });
});

const SHA512_ONES_ZEROS =
  '7e4415d7ae54ba0fcc6870a9fb39d9346c2c5f5350fc0a7332471f0410840b063b0bc64494f24d2013803314faea0fec95adba499fb81ddd787da59651d8a3d2';

// Recorded answers of third parties, from a repository whose licence we do not take in; never copied into this one.
const folder = new URL('../../../shared/vectors/tokens/e2e-tdx-h100-20260622/', import.meta.url);
const recorded = existsSync(folder);

describe.skipIf(!recorded)('the capture of 2026-06-22 (skipped where its folder is not there)', () => {
  const nonce = new Uint8Array(Buffer.from('a8c5455663ef4951c4a6fef8de2a079934c8e93c67626e7311bf385ba6724c9e', 'hex'));
  const now = new Date('2026-06-22T23:54:12Z');
  let text: string;
  let nras: NrasInput;
  beforeAll(async () => {
    const read = (name: string) => readFile(new URL(name, folder), 'utf8');
    text = await read('attestation.json');
    const jwks = parseJwks(await read('nras-jwks.json'));
    nras = {
      answer: await read('nras.json'),
      keys: { kind: 'certified', jwks, anchors: NRAS_INTERMEDIATES },
      nonce,
      now,
    };
  });

  test('binds CPU and GPU in one report', async () => {
    const capture = parseTinfoilCapture(text);
    const { reportData } = parseTdxQuote(capture.report).report;
    const gpuNonces = capture.gpus.map(({ report }) => parseGpuReport(report).nonce);
    const parts = { reportData, expected: await tinfoilBinding(capture, nonce), gpuNonce: nonce, gpuNonces };
    expect(await judge(parts)).toEqual(['one-report']);
    expect(await judge({ ...parts, expected: await tinfoilBinding(capture, flipped(nonce, 0)) })).toEqual([
      'none',
      'binding/report-data',
    ]);
    for (const change of [
      { gpuText: `${capture.gpuText} ` },
      { gpuText: undefined },
      { switchText: '{}' },
      { hpkeKey: nonce },
      { tlsKeyFingerprint: nonce },
    ])
      expect(await judge({ ...parts, expected: await tinfoilBinding({ ...capture, ...change }, nonce) })).toEqual([
        'none',
        'binding/report-data',
      ]);
    expect(toHex(await sha256(utf8(capture.gpuText ?? '')))).toBe(
      'f17a075bb7055e982664e31ceef18d3b898ca02a07a5141a2279ee18c946e099',
    );
  });

  test('and NRAS judged that very GPU, with claims 2.0 and keys certified by intermediate 004', async () => {
    const findings = new Findings();
    const claims = await verifyNras(nras, findings);
    expect(findings.failures).toEqual([]);
    expect(claims).toMatchObject({
      claimsVersion: '2.0',
      devices: [{ hardwareModel: 'GH100', driverVersion: '595.71.05' }],
    });
    const [gpu] = parseTinfoilCapture(text).gpus;
    const [device] = claims.devices;
    const [leaf] = parsePemChain(gpu?.certificates ?? '');
    if (gpu === undefined || device === undefined || leaf === undefined) throw new Error('the capture has one GPU');
    requireSameGpu(device, { leaf, ...parseGpuReport(gpu.report) });
    const [other = ''] = NRAS_INTERMEDIATES;
    const unknown = new Findings();
    await verifyNras({ ...nras, keys: { ...nras.keys, kind: 'certified', anchors: [other] } }, unknown);
    expect(unknown.failures.map(({ reason }) => reason)).toEqual([
      'certificate/untrusted-root',
      'certificate/untrusted-root',
    ]);
  });

  test('a capture that is changed anywhere does not crash', () => {
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.string({ maxLength: 4 }), (at, change) => {
        try {
          parseTinfoilCapture(text.slice(0, at) + change + text.slice(at + change.length));
        } catch (error) {
          expect(error).toBeInstanceOf(CfnError);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('captures', () => {
  const hash = '00'.repeat(32);
  const capture = {
    format: 'https://tinfoil.sh/predicate/attestation/v3',
    report_data: { tls_key_fp: hash, hpke_key: hash, nonce: hash },
    cpu: { platform: 'tdx', report: 'AAAA' },
  };
  test('keep the exact text of what is hashed', () => {
    const text = JSON.stringify(capture).replace(
      /\}$/,
      ', "gpu" : { "evidences" : [ ] , "a\\u0062": "}" } ,"nvswitch":[1 ,2]}',
    );
    const parsed = parseTinfoilCapture(text);
    expect(parsed.gpuText).toBe('{ "evidences" : [ ] , "a\\u0062": "}" }');
    expect(parsed.switchText).toBe('[1 ,2]');
    expect(parseTinfoilCapture(JSON.stringify(capture))).toMatchObject({ gpuText: undefined, gpus: [] });
  });
  test.each([
    [
      'another version',
      JSON.stringify({ ...capture, format: 'https://tinfoil.sh/predicate/attestation/v2' }),
      'parse/json',
    ],
    [
      'a short key',
      JSON.stringify({ ...capture, report_data: { ...capture.report_data, hpke_key: '00' } }),
      'parse/json',
    ],
    ['another platform', JSON.stringify({ ...capture, cpu: { platform: 'sgx', report: 'AAAA' } }), 'parse/json'],
    [
      'a report that is no base64',
      JSON.stringify({ ...capture, cpu: { platform: 'tdx', report: 'A_A=' } }),
      'parse/base64',
    ],
    ['two members of one name', JSON.stringify(capture).replace(/\}$/, ',"cpu":{}}'), 'parse/duplicate'],
  ] as const)('%s is refused', (_, text, reason) => {
    expect(() => parseTinfoilCapture(text)).toThrow(refused(reason));
  });
});
