import { describe, expect, test } from 'vitest';
import { fromHex } from '../../../proto/index.ts';
import { parseGpuReport } from '../../evidence/nvidia.ts';
import { Findings } from '../findings.ts';
import { NVIDIA_RIM_ROOT } from '../trust-anchors.ts';
import { appraiseSwitches } from './appraise.ts';
import { collectGpuClaims } from './claims.ts';
import { gpuOf, h100, judge, ocspOf, reasonsOf, switchOf, vector, VBIOS_RIM } from './nvidia.fixture.ts';
import { beginRim, openRim, verifyRim } from './rim.ts';
import { verifyNvidia } from './verify.ts';
import cases from '../../vectors/nvidia/cases.json' with { type: 'json' };

/** The cases of vectors/nvidia/cases.json, each with the reasons it must be refused for. */
describe('cases of the vectors', () => {
  test('h100-full-accept, and its claims', async () => {
    const { findings, verification } = await judge(h100());
    expect(findings.failures).toEqual([]);
    const [gpu] = verification.gpus.map(collectGpuClaims);
    const expected = cases.find(({ id }) => id === 'h100-full-accept')?.fields;
    expect(gpu).toMatchObject({ ...expected, golden: { compared: 32, matching: 32, skipped: [35] } });
    expect(gpu?.rims).toEqual(['NV_GPU_DRIVER_GH100_550.90.07', 'NV_GPU_VBIOS_1010_0200_882_96009F0001']);
    expect(findings.list).toContainEqual({ check: 'GPU 0 debug off', outcome: 'passed' });
  });

  test('h100-nonce-mismatch', async () => {
    expect((await judge(h100({ nonce: new Uint8Array(32) }))).reasons).toEqual(['binding/nonce-mismatch']);
  });

  test('h100-vbios-rim-expired', async () => {
    const { findings } = await judge(h100({ now: new Date('2026-03-01T00:00:00Z') }));
    expect(findings.failures).toMatchObject([
      { reason: 'collateral/expired', check: 'RIM vbios GH100 96.00.9F.00.01 dates' },
    ]);
  });

  test('h100-driver-rim-missing', async () => {
    const { findings } = await judge(h100({ rims: [vector(VBIOS_RIM)] }));
    expect(findings.failures).toMatchObject([{ reason: 'collateral/rim-missing' }]);
    expect(findings.failures[0]?.detail).toContain('NV_GPU_DRIVER_GH100_550.90.07');
  });

  test('ocsp-good', async () => {
    const ocsp = ['gpu_driver_rim_l4', 'gpu_driver_rim_l3', 'gpu_rim_l2', 'gpu_vbios_l4'].map(ocspOf);
    const { findings } = await judge(h100({ ocsp }));
    expect(findings.failures).toEqual([]);
    const looked = findings.list.filter(
      ({ check, outcome }) => check.includes('revocation of') && outcome === 'passed',
    );
    expect(looked).toHaveLength(6); // three of each RIM's chain
  });

  test('ocsp-stale', async () => {
    const ocsp = ['gpu_certificate_l2', 'gpu_certificate_l3', 'gpu_certificate_l4'].map(ocspOf);
    const { findings, reasons } = await judge(h100({ ocsp }));
    expect(reasons).toEqual(['revocation/stale']);
    expect(findings.failures).toHaveLength(3);
    expect((await judge(h100({ ocsp, now: new Date('2025-08-21T12:00:00Z') }))).reasons).toEqual([]);
  });

  test('gb100-signature-ok-no-rim', async () => {
    const gpus = [gpuOf('GPU 0', 'gb100-575.32')];
    const { findings } = await judge(h100({ gpus, rims: [], now: new Date('2026-03-01T00:00:00Z') }), {
      vbios: { minimum: '97' },
    });
    expect(findings.failures.map(({ reason, detail }) => [reason, detail.split(': ')[1]])).toEqual([
      ['collateral/rim-missing', 'NV_GPU_CC_DRIVER_GB100_575.32'],
      ['collateral/rim-missing', 'NV_GPU_VBIOS_G525_0220_886_970088000F'],
    ]);
  });

  test('h100-535-vbios-match', async () => {
    const { findings, verification } = await judge(
      h535('NV_GPU_VBIOS_1010_0200_882_96005E0001', '2024-06-01T00:00:00Z'),
    );
    expect(findings.failures.map(({ reason }) => reason)).toEqual([
      'evidence/fwid-unavailable',
      'collateral/rim-missing',
    ]);
    expect(verification.gpus[0]?.golden).toMatchObject({ compared: 12, matching: 12 });
  });

  test('h100-535-vbios-mismatch', async () => {
    const { findings, verification } = await judge(
      h535('NV_GPU_VBIOS_1010_0200_882_96005E0001.newer', '2024-06-01T00:00:00Z'),
    );
    expect(reasonsOf(findings.failures)).toEqual([
      'collateral/rim-missing',
      'evidence/fwid-unavailable',
      'reference/mismatch',
    ]);
    expect(verification.gpus[0]?.golden?.mismatching).toEqual([9]);
  });

  test('h100-535-driver-rim-tampered', async () => {
    const { reasons } = await judge(h535('NV_GPU_DRIVER_GH100_535.86.09.mismatch', '2025-09-01T00:00:00Z'));
    expect(reasons).toEqual(['collateral/rim-missing', 'collateral/rim-signature', 'evidence/fwid-unavailable']);
  });

  test('h100-invalid-signature', async () => {
    const report = parseGpuReport(vector('reports/h100-560.00.badsig.bin'));
    const gpus = [{ ...gpuOf('GPU 0', 'h100-535.86.09'), report }];
    const evidence = h100({ gpus, rims: [], now: new Date('2025-09-01T00:00:00Z') });
    expect((await judge(evidence)).reasons).toEqual([
      'collateral/rim-missing',
      'evidence/fwid-mismatch',
      'evidence/gpu-report-signature',
      'policy/gpu-mode',
      'policy/gpu-topology',
    ]);
  });

  test('h100-driver-rim-expired', async () => {
    const gpus = [gpuOf('GPU 0', 'h100-570.124.03')];
    const rims = [vector('rims/NV_GPU_DRIVER_GH100_570.124.03.expired.xml')];
    const { reasons } = await judge(h100({ gpus, rims, now: new Date('2025-09-01T00:00:00Z') }));
    expect(reasons).toEqual(['collateral/expired', 'collateral/rim-missing', 'collateral/rim-signature']);
  });

  test.each([
    ['rim-bad-signature', 'incorrect_signature_driver_rim', ['collateral/rim-signature']],
    ['rim-untrusted-root', 'incorrect_cert_chain_driver_rim', ['certificate/untrusted-root']],
  ])('%s', async (_id, file, reasons) => {
    const findings = new Findings();
    const rim = await openRim(vector(`rims/${file}.xml`), NVIDIA_RIM_ROOT, undefined);
    await verifyRim(beginRim(rim, NVIDIA_RIM_ROOT), new Date('2025-09-01T00:00:00Z'), undefined, findings);
    expect(reasonsOf(findings.failures)).toEqual(reasons);
  });

  test('rim-wrong-version', async () => {
    const rims = [vector('rims/NV_GPU_DRIVER_GH100_550.144.03.xml'), vector(VBIOS_RIM)];
    expect((await judge(h100({ rims }))).reasons).toEqual(['collateral/rim-version']);
  });

  test('nvswitch', async () => {
    const findings = new Findings();
    const evidence = h100({
      gpus: [],
      switches: [switchOf('switch 0', 'ls10-switch')],
      rims: [vector('rims/NV_SWITCH_BIOS_5612_0002_890_9610550001.xml')],
      now: new Date('2026-06-01T00:00:00Z'),
    });
    const { switches } = await verifyNvidia(evidence, findings);
    await appraiseSwitches(switches, { measurements: 'rims' }, findings);
    expect(findings.failures).toEqual([]);
    expect(switches[0]).toMatchObject({ golden: { compared: 31, matching: 31 }, device: { chip: 'LS10' } });
  });

  function h535(rim: string, now: string) {
    return h100({
      gpus: [gpuOf('GPU 0', 'h100-535.86.09')],
      rims: [vector(`rims/${rim}.xml`)],
      nonce: fromHex('27a328247bf7935c993341cf587be6f05986ccce4fe7ba2c54100bd616a58f66'),
      now: new Date(now),
    });
  }
});
