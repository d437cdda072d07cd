import { readDevice, type NvidiaDevice } from '../../evidence/gpu-certificate.ts';
import type { GpuReport, SwitchReport } from '../../evidence/nvidia.ts';
import { Refusal } from '../../evidence/reasons.ts';
import type { Rim } from '../../evidence/rim.ts';
import type { Certificate } from '../../evidence/x509.ts';

/** A RIM that a device needs. */
export interface RimNeed {
  readonly kind: Rim['kind'];
  /** Product and version that it must be of; `undefined` when the report does not say. */
  readonly product: string;
  readonly version: string | undefined;
  /** Name under which NVIDIA's RIM service has it; `undefined` when the report lacks a part of it. */
  readonly id: string | undefined;
}

/** Reports of switches lack the parts; all LS10 are of one board (NVIDIA/attestation-sdk). */
const LS10_BOARD = '5612_0002_890';

/**
 * The RIMs that a report asks for (attestation-formats §4.3); none when its chain names no device that we know. It is harmless to
 * look before the report is verified, as RIMs are verified by themselves.
 */
export function rimNeedsOf(evidence: {
  readonly report: GpuReport | SwitchReport;
  readonly chain: readonly Certificate[];
}): RimNeed[] {
  const { report } = evidence;
  const device = tryReadDevice(evidence.chain);
  if (device === undefined) return [];
  return report.kind === 'gpu' ? gpuRimNeeds(report, device) : [switchRimNeed(report, device)];
}

/** {@link readDevice}, for where somebody else refuses what names no device. */
export function tryReadDevice(chain: readonly Certificate[]): NvidiaDevice | undefined {
  try {
    return readDevice(chain);
  } catch (error) {
    if (error instanceof Refusal) return undefined;
    throw error;
  }
}

function gpuRimNeeds(report: GpuReport, { family, chip }: NvidiaDevice): RimNeed[] {
  const { driverVersion, vbiosVersion } = report;
  const prefix = family === 'HOPPER' ? `NV_GPU_DRIVER_${chip}` : `NV_GPU_CC_DRIVER_${report.chip ?? 'GB100'}`;
  return [
    { kind: 'driver', product: chip, version: driverVersion, id: join(prefix, driverVersion) },
    {
      kind: 'vbios',
      product: chip,
      version: vbiosVersion,
      id: join('NV_GPU_VBIOS', report.project, report.projectSku, report.chipSku, compact(vbiosVersion)),
    },
  ];
}

function switchRimNeed({ biosVersion }: SwitchReport, { chip }: NvidiaDevice): RimNeed {
  const id = join('NV_SWITCH_BIOS', LS10_BOARD, compact(biosVersion));
  return { kind: 'switch-bios', product: chip, version: biosVersion, id };
}

function join(...parts: readonly (string | undefined)[]): string | undefined {
  return parts.some((part) => part === undefined || part === '') ? undefined : parts.join('_');
}

function compact(version: string | undefined): string | undefined {
  return version?.replaceAll('.', '').toUpperCase();
}
