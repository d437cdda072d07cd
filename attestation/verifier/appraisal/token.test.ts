import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import type { GpuReport, SwitchReport } from '../../evidence/nvidia.ts';
import { parseNvidiaReport } from '../../evidence/nvidia.ts';
import { parsePemChain } from '../../evidence/x509.ts';
import { Findings } from '../findings.ts';
import type { VerifiedDevice } from '../nvidia/verify.ts';
import type { NrasClaims, NrasDeviceClaims } from '../tokens/nras.ts';
import { ueidOf } from '../tokens/same-gpu.ts';
import { checkSameDevices } from './token.ts';

type Local = VerifiedDevice<GpuReport | SwitchReport>;
const read = (path: string): Buffer => readFileSync(new URL(`../../vectors/nvidia/${path}`, import.meta.url));

function local(name: string): Local {
  const report = parseNvidiaReport(new Uint8Array(read(`reports/${name}.bin`)));
  const chain = parsePemChain(read(`chains/${name}.pem`).toString());
  const rest = { device: undefined, isAuthentic: true, gaps: [], rimIds: [], golden: undefined };
  return { name, report, chain, ...rest };
}

function judged(name: string, { report, chain: [leaf] }: Local): NrasDeviceClaims {
  return {
    name,
    kind: report.kind,
    ueid: ueidOf(leaf) ?? null,
    hardwareModel: leaf?.subjectCommonName ?? null,
    driverVersion: report.kind === 'gpu' ? (report.driverVersion ?? null) : null,
    vbiosVersion: (report.kind === 'gpu' ? report.vbiosVersion : report.biosVersion) ?? null,
    measurementResult: 'success',
    secureBoot: true,
    debugStatus: 'disabled',
    warning: null,
    claims: {},
  };
}

test('NVIDIA judged just the devices at hand, in any order, GPUs and switches in answers of their own', async () => {
  const [a, b, other] = [local('h100-550.90.07'), local('h100-535.86.09'), local('gb100-575.32')] as const;
  const nvswitch = local('ls10-switch');
  const reasons = async (answers: NrasDeviceClaims[][], devices: Local[]): Promise<string[]> => {
    const findings = new Findings();
    await checkSameDevices(
      answers.map((list) => ({ devices: list }) as unknown as NrasClaims),
      devices,
      findings,
    );
    return findings.list.map((finding) => ('reason' in finding ? finding.reason : finding.outcome));
  };
  const [first, second, third] = [judged('GPU-0', a), judged('GPU-1', b), judged('GPU-2', other)];
  const fabric = judged('SWITCH-0', nvswitch);
  for (const devices of [
    [a, b],
    [b, a],
  ])
    expect(await reasons([[first, second]], devices)).toEqual(['passed']);
  expect(await reasons([[first, second], [fabric]], [b, nvswitch, a])).toEqual(['passed']);
  expect(await reasons([[first, second]], [a, b, nvswitch])).toEqual(['passed']);
  expect(await reasons([[first]], [])).toEqual(['skipped']);
  const refused = ['binding/gpu-identity'];
  expect(await reasons([[first]], [a, b])).toEqual(refused);
  expect(await reasons([[first, first]], [a, b])).toEqual(refused);
  expect(await reasons([[first, second, third]], [a, b])).toEqual(refused);
  expect(await reasons([[first, { ...second, driverVersion: '1' }]], [a, b])).toEqual(refused);
  expect(await reasons([[fabric]], [a, nvswitch])).toEqual(refused);
  expect(await reasons([[first], [fabric]], [a])).toEqual(refused);
  expect(await reasons([[{ ...first, kind: 'switch' }]], [a])).toEqual(refused);
});
