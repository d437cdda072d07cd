import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fromBase64url, parseWorkerKeys, sha256Hex } from '../../proto/index.ts';
import { appraisalFixture } from '../appraisal.fixture.ts';
import { parseGpuReport } from '../evidence/nvidia.ts';
import { parseTdxQuote, type QeReport, type TdReport } from '../evidence/tdx.ts';
import { parseCertificate, parsePemChain, type Certificate } from '../evidence/x509.ts';
import { issueCertificate } from '../insecure/certificates.ts';
import { gpuRules } from './nvidia.ts';
import type { Case, Rule } from './rule.ts';
import { quoteRules, reportRules } from './tdx.ts';
import { INTEL_QE_SIGNER } from './trust-anchors.ts';

// Cases that only a dishonest platform could sign: the parsed evidence is changed, and one rule is asked.
let subject: Case;
let close: () => Promise<void>;
beforeAll(async () => {
  const fixture = await appraisalFixture();
  const { evidence, policy, nonce, now, keys } = fixture;
  close = fixture.close;
  const quote = parseTdxQuote(fromBase64url(evidence.quote));
  const [gpu] = evidence.gpus;
  const chain = parsePemChain(gpu?.certificates ?? '');
  const report = parseGpuReport(fromBase64url(gpu?.report ?? ''));
  subject = {
    policy,
    nonce,
    now,
    evidence,
    quote,
    evidenceNonce: nonce,
    workerKeysBytes: keys,
    workerKeys: parseWorkerKeys(keys),
    pckLeaf: quote.pckChain[0] as Certificate,
    gpus: [{ arch: 'HOPPER', report, chain, leaf: chain[0] as Certificate, name: 'GPU 0' }],
  };
});
afterAll(() => close());

async function ask(name: string, changed: Case): Promise<string> {
  const rule = [...quoteRules, ...reportRules, ...gpuRules].find((candidate) => candidate.name === name) as Rule;
  try {
    await rule.check(changed);
    return 'passed';
  } catch (error) {
    return (error as { code: string }).code;
  }
}
const withReport = (changes: Partial<TdReport>): Case => ({
  ...subject,
  quote: { ...subject.quote, report: { ...subject.quote.report, ...changes } },
});
const withQe = (changes: Partial<QeReport>): Case => ({
  ...subject,
  quote: { ...subject.quote, qeReport: { ...subject.quote.qeReport, ...changes } },
});
const byte = (length: number, at: number, value: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i === at ? value : 0));

test('every rule passes on the unchanged case, but the one that the policy skips', async () => {
  for (const { name, skip } of [...quoteRules, ...reportRules, ...gpuRules]) {
    if (skip?.(subject.policy) === undefined) expect([name, await ask(name, subject)]).toEqual([name, 'passed']);
  }
});

describe('quoting enclave identity', () => {
  const rule = 'quoting enclave identity';
  test('refuses another signer, and that of Intel on a simulated platform', async () => {
    expect(await ask(rule, withQe({ mrsigner: new Uint8Array(32) }))).toBe('CFN_QE_BINDING');
    expect(await ask(rule, withQe({ mrsigner: INTEL_QE_SIGNER }))).toBe('CFN_QE_BINDING');
  });
  test('refuses the simulated signer under a policy for real TDX', async () => {
    const { qeIdentity, tcb, revocation } = subject.policy.tee;
    const policy = { ...subject.policy, tee: { kind: 'tdx', qeIdentity, tcb, revocation } as const };
    expect(await ask(rule, { ...subject, policy })).toBe('CFN_QE_BINDING');
    expect(await ask(rule, { ...withQe({ mrsigner: INTEL_QE_SIGNER }), policy })).toBe('passed');
  });
  test('refuses another product, debugging, and unknown attributes', async () => {
    expect(await ask(rule, withQe({ isvProdId: 1 }))).toBe('CFN_QE_BINDING'); // Intel's SGX quoting enclave
    expect(await ask(rule, withQe({ attributes: byte(16, 0, 0x13) }))).toBe('CFN_QE_BINDING');
    expect(await ask(rule, withQe({ attributes: byte(16, 0, 0x01) }))).toBe('CFN_QE_BINDING');
    expect(await ask(rule, withQe({ attributes: Uint8Array.from({ length: 16 }, () => 0x11) }))).toBe('CFN_QE_BINDING');
    expect(await ask(rule, withQe({ attributes: byte(16, 0, 0x15) }))).toBe('passed'); // 64-bit mode: masked out
    expect(await ask(rule, withQe({ miscSelect: 1 }))).toBe('CFN_QE_BINDING');
  });
});

test('attestation key binding demands the zeros behind the digest', async () => {
  const reportData = subject.quote.qeReport.reportData.slice();
  reportData[63] = 1;
  expect(await ask('attestation key binding', withQe({ reportData }))).toBe('CFN_QE_BINDING');
});

test('report data is compared over all 64 bytes', async () => {
  for (const at of [0, 31, 32, 63]) {
    const reportData = subject.quote.report.reportData.slice();
    reportData[at] = (reportData[at] ?? 0) ^ 0x80;
    expect(await ask('report data', withReport({ reportData }))).toBe('CFN_REPORT_DATA_MISMATCH');
  }
});

test('debugging is refused for any of the bits 0 to 7', async () => {
  for (let bit = 0n; bit < 8n; bit++) {
    expect(await ask('debugging is off', withReport({ tdAttributes: 0x1000_0000n | (1n << bit) }))).toBe(
      'CFN_DEBUG_ENABLED',
    );
  }
});

test.each<[string, string, Partial<TdReport>]>([
  ['SEPT_VE_DISABLE off', 'SEPT_VE_DISABLE', { tdAttributes: 0n }],
  ['an unknown attribute', 'TD and module attributes', { tdAttributes: 1n << 40n }],
  ['XFAM without SSE', 'TD and module attributes', { xfam: 1n }],
  ['an unknown XFAM bit', 'TD and module attributes', { xfam: 3n | (1n << 20n) }],
  ['a debug module', 'TD and module attributes', { seamAttributes: 1n }],
  ['a module that Intel did not sign', 'TD and module attributes', { mrsignerseam: byte(48, 47, 1) }],
])('refuses %s', async (_name, rule, changes) => {
  expect(await ask(rule, withReport(changes))).toBe('CFN_TD_ATTRIBUTES');
});

test.each([
  ['another leaf', ['TCB Signing', 'CA', 'root'], 'P-256'],
  ['a leaf on another curve', ['SGX PCK Certificate', 'CA', 'root'], 'P-384'],
  ['a chain of two', ['SGX PCK Certificate', 'root'], 'P-256'],
] as const)('the PCK chain refuses %s', async (_name, names, curve) => {
  const validity = { notBefore: '2026-01-01T00:00:00Z', notAfter: '2027-01-01T00:00:00Z' };
  const [root, ...below] = names.toReversed();
  let issued = await issueCertificate({ commonName: root ?? '', curve: 'P-256', isCa: true, ...validity });
  const chain: Certificate[] = [parseCertificate(issued.der)];
  for (const [index, commonName] of below.entries()) {
    const isCa = index < below.length - 1;
    issued = await issueCertificate({ commonName, curve: isCa ? 'P-256' : curve, isCa, ...validity }, issued);
    chain.unshift(parseCertificate(issued.der));
  }
  const tee = {
    ...subject.policy.tee,
    kind: 'simulated',
    root: await sha256Hex((chain.at(-1) as Certificate).der),
  } as const;
  const changed = {
    ...subject,
    policy: { ...subject.policy, tee },
    quote: { ...subject.quote, pckChain: chain },
    pckLeaf: chain[0] as Certificate,
  };
  expect(await ask('PCK certificate chain', changed)).toBe('CFN_CHAIN_INVALID');
});

describe('GPU', () => {
  const withGpu = (changes: object): Case => ({
    ...subject,
    gpus: subject.gpus.map((gpu) => ({ ...gpu, ...changes })),
  });
  test('firmware id: another one, and none', async () => {
    const report = (fwid: Uint8Array | undefined) => ({
      report: { ...(subject.gpus[0] as Case['gpus'][0]).report, fwid },
    });
    expect(await ask('GPU firmware id', withGpu(report(new Uint8Array(48))))).toBe('CFN_GPU_EVIDENCE');
    expect(await ask('GPU firmware id', withGpu(report(undefined)))).toBe('CFN_GPU_EVIDENCE');
  });
  test('a report that names no version', async () => {
    const report = {
      ...(subject.gpus[0] as Case['gpus'][0]).report,
      driverVersion: undefined,
      vbiosVersion: undefined,
    };
    expect(await ask('GPU driver version', withGpu({ report }))).toBe('CFN_MEASUREMENT_UNKNOWN');
    expect(await ask('GPU VBIOS version', withGpu({ report }))).toBe('CFN_MEASUREMENT_UNKNOWN');
  });
  test('a device key on another curve, and another root', async () => {
    expect(await ask('GPU report signature', withGpu({ leaf: subject.pckLeaf }))).toBe('CFN_GPU_EVIDENCE');
    expect(await ask('GPU certificate chain', withGpu({ chain: subject.quote.pckChain }))).toBe('CFN_CHAIN_UNTRUSTED');
  });
});
