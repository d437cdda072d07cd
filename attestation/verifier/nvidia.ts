import { equalBytes, gpuNonce, toHex } from '../../proto/index.ts';
import { certifiedFirmwareId } from '../evidence/gpu-certificate.ts';
import { verifyChain } from './pki/chain.ts';
import { verifyEcdsa } from './pki/signatures.ts';
import type { AppraisalPolicy, GpuPolicy } from './policy.ts';
import { isNotChecked, reasonOf, refuse, type Case, type ParsedGpu, type Rule } from './rule.ts';
import { NVIDIA_DEVICE_ROOT } from './trust-anchors.ts';

/** The leaf certificate names the chip; the report itself does not say which it is. */
const PRODUCTS = { HOPPER: /\bGH\d{3}\b/, BLACKWELL: /\bGB\d{3}\b/ };

export const gpuRules: readonly Rule[] = [
  { name: 'GPU count and identity', skip: notRequired, check: (subject) => requireGpus(subject) },
  eachGpu('GPU certificate chain', async (gpu, policy, { now }) => {
    const root = policy.root.kind === 'nvidia' ? NVIDIA_DEVICE_ROOT : policy.root.root;
    await verifyChain(gpu.chain, { root, now, what: `${gpu.name} chain` });
  }),
  eachGpu('GPU report signature', (gpu) => verifyGpuReport(gpu)),
  eachGpu('GPU nonce', async (gpu, _policy, { nonce, workerKeysBytes }) => {
    if (!equalBytes(gpu.report.nonce, await gpuNonce(nonce, workerKeysBytes))) {
      refuse('CFN_NONCE_MISMATCH', `${gpu.name} answers another nonce than this worker's`);
    }
  }),
  eachGpu('GPU architecture', requireArchitecture),
  eachGpu(
    'GPU driver version',
    (gpu, policy) => requireVersion(gpu, policy.driverVersions, 'driver', gpu.report.driverVersion),
    'driverVersions',
  ),
  eachGpu(
    'GPU VBIOS version',
    (gpu, policy) => requireVersion(gpu, policy.vbiosVersions, 'VBIOS', gpu.report.vbiosVersion),
    'vbiosVersions',
  ),
  eachGpu('GPU firmware id', verifyFirmwareId, 'firmwareId'),
  eachGpu('GPU measurements', requireMeasurements, 'measurements'),
];

/** Endorsements that this version cannot verify. */
export function skippedGpuEndorsements({ gpu }: AppraisalPolicy): { name: string; reason: string }[] {
  return 'notRequired' in gpu ? [] : [{ name: 'GPU chain revocation', reason: gpu.revocation.notChecked }];
}

export async function verifyGpuReport({ leaf, report, name }: ParsedGpu): Promise<void> {
  const { publicKey } = leaf;
  if (publicKey.type !== 'ec' || publicKey.curve !== 'P-384')
    refuse('CFN_GPU_EVIDENCE', `${name}: the device key is not on P-384`);
  if (!(await verifyEcdsa(publicKey, 'SHA-384', report.signature, report.signedBytes)))
    refuse('CFN_GPU_EVIDENCE', `${name}: the device key did not sign the report`);
}

/** The firmware that the device certificate was issued for must be the one that reports. */
export function verifyFirmwareId({ leaf, report, name }: ParsedGpu): void {
  const certified = certifiedFirmwareId(leaf);
  if (certified === undefined || report.fwid === undefined)
    refuse('CFN_GPU_EVIDENCE', `${name} does not state its firmware id`);
  if (!equalBytes(certified, report.fwid))
    refuse('CFN_GPU_EVIDENCE', `${name}: the firmware id is not the certificate's`);
}

function requireGpus({ gpus, policy }: Case): void {
  if ('notRequired' in policy.gpu) return;
  if (gpus.length < policy.gpu.countMin) {
    refuse('CFN_GPU_EVIDENCE', `evidence has ${gpus.length} GPUs, the policy demands ${policy.gpu.countMin}`);
  }
  // One GPU must not be counted twice, whatever certificates it shows.
  if (new Set(gpus.map((gpu) => toHex(gpu.leaf.publicKey.spki))).size !== gpus.length) {
    refuse('CFN_GPU_EVIDENCE', 'two GPUs have the same device key');
  }
}

function requireArchitecture({ arch, leaf, name }: ParsedGpu, policy: GpuPolicy): void {
  if (!PRODUCTS[arch].test(leaf.subjectCommonName)) {
    refuse('CFN_GPU_EVIDENCE', `${name} says ${arch}, its certificate says ${leaf.subjectCommonName}`);
  }
  if (!policy.architectures.includes(arch)) refuse('CFN_GPU_EVIDENCE', `${name}: the policy does not accept ${arch}`);
}

function requireVersion(
  gpu: ParsedGpu,
  list: GpuPolicy['driverVersions'],
  what: string,
  version: string | undefined,
): void {
  if (isNotChecked(list)) return;
  if (version === undefined || !list.includes(version)) {
    refuse('CFN_MEASUREMENT_UNKNOWN', `${gpu.name}: ${what} ${version ?? 'absent'} is not a reference value`);
  }
}

function requireMeasurements({ report, name }: ParsedGpu, policy: GpuPolicy): void {
  if (isNotChecked(policy.measurements)) return;
  const reported = new Map(report.measurements.map(({ index, value }) => [String(index - 1), toHex(value)]));
  const expected = Object.entries(policy.measurements);
  if (expected.length === 0) refuse('CFN_MEASUREMENT_UNKNOWN', `${name}: the policy lists no reference values`);
  const mismatches = expected
    .filter(([index, list]) => !list.includes(reported.get(index) ?? 'absent'))
    .map(([index]) => index);
  if (mismatches.length > 0)
    refuse('CFN_MEASUREMENT_UNKNOWN', `${name}: measurements differ at index ${mismatches.join(', ')}`);
}

function eachGpu(
  name: string,
  check: (gpu: ParsedGpu, policy: GpuPolicy, subject: Case) => Promise<void> | void,
  optional?: 'driverVersions' | 'vbiosVersions' | 'firmwareId' | 'measurements',
): Rule {
  return {
    name,
    skip: (policy) =>
      notRequired(policy) ??
      ('notRequired' in policy.gpu || optional === undefined ? undefined : reasonOf(policy.gpu[optional])),
    check: async (subject) => {
      const { gpu: policy } = subject.policy;
      if ('notRequired' in policy) return;
      for (const gpu of subject.gpus) await check(gpu, policy, subject);
    },
  };
}

function notRequired({ gpu }: AppraisalPolicy): string | undefined {
  return 'notRequired' in gpu ? gpu.notRequired : undefined;
}
