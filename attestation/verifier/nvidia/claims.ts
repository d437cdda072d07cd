import { toHex } from '../../../proto/index.ts';
import type { FeatureMode, GpuReport, SwitchReport } from '../../evidence/nvidia.ts';
import type { GoldenClaims } from './golden.ts';
import type { VerifiedDevice } from './verify.ts';

interface DeviceClaims {
  readonly name: string;
  /** Common name of the device certificate. */
  readonly device: string;
  readonly family: string;
  /** Chip that the certificates name, such as `GH100`. */
  readonly product: string;
  /** Id by which switches and GPUs name each other. */
  readonly pdi: string;
  /** Serial number of the device certificate. */
  readonly ueid: string;
  readonly nonce: string;
  readonly fwid: string;
  /** By RIM index, from 0. */
  readonly measurements: Readonly<Record<string, string>>;
  /** Names of the RIMs for its versions. */
  readonly rims: readonly string[];
  readonly golden: GoldenClaims | undefined;
}

/** What a GPU's evidence says, for people and logs; '' for what it does not. Hexadecimal, but for versions and names. */
export interface GpuClaims extends DeviceClaims {
  /** As the report itself names it, which newer drivers of Blackwell do. */
  readonly reportedChip: string;
  /** Chip that the report itself names. */
  readonly chip: string;
  readonly driver: string;
  readonly vbios: string;
  readonly project: string;
  readonly projectSku: string;
  readonly chipSku: string;
  readonly boardId: number | undefined;
  readonly nvdec0: string;
  readonly protectedPcie: string;
  readonly mode: FeatureMode | '';
  readonly switchPdis: readonly string[];
}

export interface SwitchClaims extends DeviceClaims {
  readonly bios: string;
  readonly position: number | undefined;
  readonly lock: number | undefined;
  readonly gpuPdis: readonly string[];
}

export function collectGpuClaims(gpu: VerifiedDevice<GpuReport>): GpuClaims {
  const { report } = gpu;
  return {
    ...collect(gpu),
    chip: report.chip ?? '',
    reportedChip: report.chip ?? '',
    driver: report.driverVersion ?? '',
    vbios: report.vbiosVersion ?? '',
    project: report.project ?? '',
    projectSku: report.projectSku ?? '',
    chipSku: report.chipSku ?? '',
    boardId: report.boardId,
    nvdec0: report.nvdec0 ?? '',
    protectedPcie: report.protectedPcie ?? '',
    mode: report.featureMode ?? '',
    switchPdis: report.switchPdis ?? [],
  };
}

export function collectSwitchClaims(item: VerifiedDevice<SwitchReport>): SwitchClaims {
  const { report } = item;
  return {
    ...collect(item),
    bios: report.biosVersion ?? '',
    position: report.position,
    lock: report.lock,
    gpuPdis: report.gpuPdis ?? [],
  };
}

function collect({
  name,
  report,
  chain: [leaf],
  device,
  rimIds,
  golden,
}: VerifiedDevice<GpuReport | SwitchReport>): DeviceClaims {
  return {
    name,
    device: leaf?.subjectCommonName ?? '',
    family: device?.family ?? '',
    product: device?.chip ?? '',
    pdi: device?.pdi ?? '',
    ueid: toHex(leaf?.serial ?? new Uint8Array()),
    nonce: toHex(report.nonce),
    fwid: toHex(report.fwid ?? new Uint8Array()),
    measurements: Object.fromEntries(report.measurements.map(({ index, value }) => [index - 1, toHex(value)])),
    rims: rimIds,
    golden,
  };
}
