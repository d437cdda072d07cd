import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { CfnError, NO_ENDORSEMENTS, sha256Hex, toBase64url, toHex, type Evidence } from '../../proto/index.ts';
import { workerKeys } from '../appraisal.fixture.ts';
import { certifiedFirmwareId } from '../evidence/gpu-certificate.ts';
import { parseGpuReport } from '../evidence/nvidia.ts';
import { parseSgxExtension } from '../evidence/pck.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import { parsePemChain, type Certificate } from '../evidence/x509.ts';
import { appraise, parsePolicy, type AppraisalPolicy } from './index.ts';
import { verifyChain } from './pki/chain.ts';
import { verifyFirmwareId, verifyGpuReport } from './nvidia.ts';
import type { ParsedGpu } from './rule.ts';
import { verifyAttestationKey, verifyQeReport, verifyQuoteSignature } from './tdx.ts';
import { INTEL_SGX_ROOT, NVIDIA_DEVICE_ROOT } from './trust-anchors.ts';

// Real evidence at the instant that it belongs to; ../vectors/README.md has the sources.
const read = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(`../vectors/${name}`, import.meta.url)));
const readText = (name: string): string => new TextDecoder().decode(read(name));

const quotes = [
  {
    file: 'tdx-v4-gcp.bin',
    now: '2025-10-25T00:00:00Z',
    version: 4,
    fmspc: '00806f050000',
    padding: 3065,
    tooEarly: '2025-03-01T00:00:00Z',
  },
  {
    file: 'tdx-v5-go-tdx-guest.bin',
    now: '2026-02-25T00:00:00Z',
    version: 5,
    fmspc: '90c06f000000',
    padding: 0,
    tooEarly: '2025-06-25T00:00:00Z',
  },
  {
    file: 'tdx-v4-debug.bin',
    now: '2023-06-30T00:00:00Z',
    version: 4,
    fmspc: '50806f000000',
    padding: 0,
    tooEarly: '2023-02-01T00:00:00Z',
  },
] as const;

test("the pinned roots are the vendors'", async () => {
  expect(await sha256Hex(read('intel-sgx-root-ca.der'))).toBe(INTEL_SGX_ROOT);
  const [root] = parsePemChain(readText('nvidia-device-root.pem'));
  expect(await sha256Hex((root as Certificate).der)).toBe(NVIDIA_DEVICE_ROOT);
});

describe.each(quotes)('$file', ({ file, now, version, fmspc, padding, tooEarly }) => {
  const bytes = read(file);
  const quote = parseTdxQuote(bytes);
  const pckLeaf = quote.pckChain[0] as Certificate;

  test("parses, and verifies under Intel's root", async () => {
    expect(quote.version).toBe(version);
    expect(bytes.length - quote.quoteBytes).toBe(padding);
    expect(toHex(parseSgxExtension(pckLeaf).fmspc)).toBe(fmspc);
    await verifyChain(quote.pckChain, { root: INTEL_SGX_ROOT, now: new Date(now), what: 'PCK chain' });
    await verifyQeReport({ quote, pckLeaf });
    await verifyAttestationKey(quote);
    await verifyQuoteSignature(quote);
  });

  test('is refused under another root, or before its certificate is valid', async () => {
    const options = { root: INTEL_SGX_ROOT, now: new Date(now), what: 'PCK chain' };
    await expect(verifyChain(quote.pckChain, { ...options, root: '00'.repeat(32) })).rejects.toMatchObject({
      code: 'CFN_CHAIN_UNTRUSTED',
    });
    await expect(verifyChain(quote.pckChain, { ...options, now: new Date(tooEarly) })).rejects.toMatchObject({
      code: 'CFN_CHAIN_INVALID',
    });
  });

  test('with one bit off is refused, or says the same', async () => {
    const altered = bytes.slice();
    altered[200] = (altered[200] ?? 0) ^ 1;
    await expect(verifyQuoteSignature(parseTdxQuote(altered))).rejects.toMatchObject({ code: 'CFN_QUOTE_SIGNATURE' });
  });

  test('cut short is malformed, never another error', () => {
    for (let length = 0; length < quote.quoteBytes; length += 37) {
      expect(codeOf(() => parseTdxQuote(bytes.subarray(0, length)))).toBe('CFN_EVIDENCE_MALFORMED');
    }
  });

  test('as whole evidence fails in its report data only, which binds no worker keys of ours', async () => {
    const evidence = evidenceOf(bytes, []);
    const error = await appraise(evidence, {
      nonce,
      policy: realPolicy(toHex(quote.report.mrtd)),
      now: new Date(now),
    }).catch((e: unknown) => e);
    const debug = file === 'tdx-v4-debug.bin' ? '; TDATTRIBUTES is 0x10000001' : '';
    expect(error).toMatchObject({
      code: 'CFN_REPORT_DATA_MISMATCH',
      message: `report data does not bind the nonce, the worker keys and the GPU evidence${debug}`,
    });
    const simulated = { ...evidence, tee: 'simulated' as const };
    await expect(appraise(simulated, { nonce, policy: simulatedPolicy, now: new Date(now) })).rejects.toMatchObject({
      code: 'CFN_CHAIN_UNTRUSTED',
    });
  });
});

describe.each([
  { name: 'h100-550.90.07', now: '2025-10-24T12:00:00Z', arch: 'HOPPER', driver: '550.90.07', vbios: '96.00.9F.00.01' },
  { name: 'gb100-575.32', now: '2026-03-01T00:00:00Z', arch: 'BLACKWELL', driver: '575.32', vbios: '97.00.88.00.0F' },
] as const)('$name', ({ name, now, arch, driver, vbios }) => {
  const bytes = read(`${name}.bin`);
  const certificates = readText(`${name}.pem`);
  const chain = parsePemChain(certificates);
  const gpu = (report: Uint8Array): ParsedGpu => ({
    arch,
    report: parseGpuReport(report),
    chain,
    leaf: chain[0] as Certificate,
    name: 'GPU 0',
  });

  test("parses, and verifies under NVIDIA's root", async () => {
    const { report } = gpu(bytes);
    expect(report.measurements).toHaveLength(64);
    expect(toHex(report.nonce)).toBe('931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb');
    expect(report).toMatchObject({ driverVersion: driver, vbiosVersion: vbios });
    await verifyChain(chain, { root: NVIDIA_DEVICE_ROOT, now: new Date(now), what: 'GPU 0 chain' });
    await verifyGpuReport(gpu(bytes));
    verifyFirmwareId(gpu(bytes));
    expect(certifiedFirmwareId(chain[0] as Certificate)).toEqual(report.fwid);
  });

  test('with one bit off is refused', async () => {
    for (const at of [4, 60, 3000, bytes.length - 300, bytes.length - 1]) {
      const altered = bytes.slice();
      altered[at] = (altered[at] ?? 0) ^ 1;
      await expect((async () => verifyGpuReport(gpu(altered)))()).rejects.toBeInstanceOf(CfnError);
    }
  });

  test('cut short or with bytes behind it is malformed; one zero behind it is not', () => {
    for (let length = 0; length < bytes.length; length += 31) {
      expect(codeOf(() => parseGpuReport(bytes.subarray(0, length)))).toBe('CFN_EVIDENCE_MALFORMED');
    }
    expect(codeOf(() => parseGpuReport(Uint8Array.from([...bytes, 1])))).toBe('CFN_EVIDENCE_MALFORMED');
    expect(codeOf(() => parseGpuReport(Uint8Array.from([...bytes, 0])))).toBe('none');
  });

  test('beside a real quote passes all checks but the two that bind it to this worker', async () => {
    const quote = read('tdx-v5-go-tdx-guest.bin');
    const policy = realPolicy(toHex(parseTdxQuote(quote).report.mrtd), { arch, driver, vbios, bytes });
    const evidence = evidenceOf(quote, [{ arch, report: toBase64url(bytes), certificates }]);
    const error = await appraise(evidence, { nonce, policy, now: new Date('2026-03-01T00:00:00Z') }).catch(
      (e: unknown) => e,
    );
    expect(error).toMatchObject({
      code: 'CFN_REPORT_DATA_MISMATCH',
      message:
        "report data does not bind the nonce, the worker keys and the GPU evidence; GPU 0 answers another nonce than this worker's",
    });
  });
});

test("a report from another device's certificate, and another firmware id, are refused", async () => {
  const report = parseGpuReport(read('h100-550.90.07.bin'));
  const chain = parsePemChain(readText('gb100-575.32.pem'));
  const gpu: ParsedGpu = { arch: 'HOPPER', report, chain, leaf: chain[0] as Certificate, name: 'GPU 0' };
  await expect(verifyGpuReport(gpu)).rejects.toMatchObject({ code: 'CFN_GPU_EVIDENCE' });
  expect(codeOf(() => verifyFirmwareId(gpu))).toBe('CFN_GPU_EVIDENCE');
  expect(codeOf(() => verifyFirmwareId({ ...gpu, report: { ...report, fwid: undefined } }))).toBe('CFN_GPU_EVIDENCE');
});

const nonce = new Uint8Array(32).fill(3);

function evidenceOf(quote: Uint8Array, gpus: Evidence['gpus']): Evidence {
  const keys = toBase64url(workerKeys('2030-01-01T00:00:00Z'));
  return {
    format: 'cfn/evidence/v1',
    tee: 'tdx',
    nonce: toBase64url(nonce),
    workerKeys: keys,
    quote: toBase64url(quote),
    gpus,
    endorsements: NO_ENDORSEMENTS,
  };
}

const skip = { notChecked: 'not part of this test' };
const common = {
  format: 'cfn/appraisal-policy/v1',
  name: 'vectors',
  mrseam: skip,
  rtmr0: skip,
  rtmr1: skip,
  rtmr2: skip,
  rtmr3: skip,
  mrconfigid: skip,
  mrowner: skip,
  mrownerconfig: skip,
  mrservicetd: skip,
  septVeDisable: 'required',
};
const simulatedPolicy = parsePolicy({
  ...common,
  tee: { kind: 'simulated', root: '00'.repeat(32), qeIdentity: skip, tcb: skip, revocation: skip },
  mrtd: [],
  gpu: { notRequired: 'test' },
});

interface ExpectedGpu {
  readonly arch: string;
  readonly driver: string;
  readonly vbios: string;
  readonly bytes: Uint8Array;
}

function realPolicy(mrtd: string, gpu?: ExpectedGpu): AppraisalPolicy {
  const tee = { kind: 'tdx', qeIdentity: skip, tcb: skip, revocation: skip };
  return parsePolicy({
    ...common,
    tee,
    mrtd: [mrtd],
    gpu: gpu === undefined ? { notRequired: 'test' } : gpuPolicy(gpu),
  });
}

function gpuPolicy({ arch, driver, vbios, bytes }: ExpectedGpu) {
  const { measurements } = parseGpuReport(bytes);
  return {
    root: { kind: 'nvidia' },
    countMin: 1,
    architectures: [arch],
    driverVersions: [driver],
    vbiosVersions: [vbios],
    firmwareId: 'required',
    measurements: Object.fromEntries(measurements.map(({ index, value }) => [String(index - 1), [toHex(value)]])),
    revocation: skip,
  };
}

function codeOf(run: () => unknown): string {
  try {
    run();
    return 'none';
  } catch (error) {
    if (!(error instanceof CfnError)) throw error;
    return error.code;
  }
}
