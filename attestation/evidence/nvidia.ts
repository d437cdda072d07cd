import { fromUtf8, toHex } from '../../proto/index.ts';
import { refuse } from './reasons.ts';
import { parseSpdmReport, type SpdmReport } from './spdm.ts';

/** Types of opaque fields that we name; the others are kept under their number. */
export const OPAQUE = {
  driverVersion: 3,
  vbiosVersion: 6,
  nvdec0: 11,
  measurementCounts: 12,
  boardId: 14,
  chipSku: 15,
  chipSkuModifier: 16,
  project: 17,
  projectSku: 18,
  projectSkuModifier: 19,
  fwid: 20,
  protectedPcie: 21,
  /** In a GPU's report the switches on its links, in a switch's its own id. */
  switchPdis: 22,
  disabledPorts: 23,
  switchPosition: 24,
  switchLock: 25,
  gpuPdis: 26,
  opaqueVersion: 34,
  chip: 35,
  featureFlag: 36,
} as const;

const FIRMWARE_ID_BYTES = 48;
const PDI_BYTES = 8;
/** A switch has eight GPU entries, unused ones all ones; behind them are the ports that lead to each. */
const SWITCH_GPUS = 8;

/** `unknown`: a value that no document names. It satisfies no demand. */
export type Toggle = 'on' | 'off' | 'unknown';
export type FeatureMode = 'single-passthrough' | 'multi-gpu-passthrough' | 'protected-pcie' | 'unknown';

/** An attestation report of a GPU (attestation-formats §4.1). What a report does not say is `undefined`. Nothing is verified. */
export interface GpuReport extends SpdmReport {
  readonly kind: 'gpu';
  readonly driverVersion: string | undefined;
  /** As NVIDIA prints it, such as `96.00.9F.00.01`. */
  readonly vbiosVersion: string | undefined;
  readonly project: string | undefined;
  readonly projectSku: string | undefined;
  readonly projectSkuModifier: string | undefined;
  readonly chipSku: string | undefined;
  readonly chipSkuModifier: string | undefined;
  readonly boardId: number | undefined;
  /** Such as `GB100`; Blackwell with newer drivers. */
  readonly chip: string | undefined;
  /** SHA-384 of the firmware identity; old drivers leave it out. */
  readonly fwid: Uint8Array | undefined;
  readonly nvdec0: Toggle | undefined;
  readonly protectedPcie: Toggle | undefined;
  readonly featureMode: FeatureMode | undefined;
  readonly measurementCounts: readonly number[] | undefined;
  /** Ids of the switches on its links, each once, 16 hexadecimal digits as the switches print them. */
  readonly switchPdis: readonly string[] | undefined;
}

/** An attestation report of an NVSwitch. */
export interface SwitchReport extends SpdmReport {
  readonly kind: 'switch';
  readonly biosVersion: string | undefined;
  readonly fwid: Uint8Array | undefined;
  /** Its own id. */
  readonly pdi: string | undefined;
  /** Ids of the GPUs on its ports, each once. */
  readonly gpuPdis: readonly string[] | undefined;
  readonly position: number | undefined;
  /** 1 when the fabric's configuration is locked. */
  readonly lock: number | undefined;
  readonly disabledPorts: number | undefined;
}

/**
 * Parses the report of a GPU or a switch; a switch's has no driver version, and its own id of eight bytes.
 *
 * @throws {Refusal} those of {@link parseSpdmReport}, and `parse/length` for a field of another size
 */
export function parseNvidiaReport(bytes: Uint8Array): GpuReport | SwitchReport {
  const report = parseSpdmReport(bytes);
  const { opaque } = report;
  const isSwitch = !opaque.has(OPAQUE.driverVersion) && opaque.get(OPAQUE.switchPdis)?.length === PDI_BYTES;
  return isSwitch ? readSwitch(report) : readGpu(report);
}

/**
 * @throws {Refusal} those of {@link parseNvidiaReport}, and `parse/unsupported-tee` for a switch's report
 */
export function parseGpuReport(bytes: Uint8Array): GpuReport {
  const report = parseNvidiaReport(bytes);
  return report.kind === 'gpu' ? report : refuse('parse/unsupported-tee', 'report is of a switch, not of a GPU');
}

/**
 * @throws {Refusal} those of {@link parseNvidiaReport}, and `parse/unsupported-tee` for a GPU's report
 */
export function parseSwitchReport(bytes: Uint8Array): SwitchReport {
  const report = parseNvidiaReport(bytes);
  return report.kind === 'switch' ? report : refuse('parse/unsupported-tee', 'report is of a GPU, not of a switch');
}

function readGpu(report: SpdmReport): GpuReport {
  const { opaque } = report;
  return {
    ...report,
    kind: 'gpu',
    driverVersion: text(opaque, 'driverVersion'),
    vbiosVersion: printVbios(opaque.get(OPAQUE.vbiosVersion)),
    project: text(opaque, 'project'),
    projectSku: text(opaque, 'projectSku'),
    projectSkuModifier: text(opaque, 'projectSkuModifier'),
    chipSku: text(opaque, 'chipSku'),
    chipSkuModifier: text(opaque, 'chipSkuModifier'),
    boardId: integer(opaque, 'boardId', 4),
    chip: text(opaque, 'chip'),
    fwid: sized(opaque, 'fwid', FIRMWARE_ID_BYTES),
    nvdec0: toggle(opaque, 'nvdec0'),
    protectedPcie: toggle(opaque, 'protectedPcie'),
    featureMode: featureMode(integer(opaque, 'featureFlag', 2)),
    measurementCounts: counts(opaque),
    switchPdis: switchPdis(opaque),
  };
}

function readSwitch(report: SpdmReport): SwitchReport {
  const { opaque } = report;
  const pdi = sized(opaque, 'switchPdis', PDI_BYTES);
  return {
    ...report,
    kind: 'switch',
    biosVersion: text(opaque, 'vbiosVersion'),
    fwid: sized(opaque, 'fwid', FIRMWARE_ID_BYTES),
    pdi: pdi === undefined ? undefined : toHex(pdi),
    gpuPdis: gpuPdis(opaque),
    position: integer(opaque, 'switchPosition', 2),
    lock: integer(opaque, 'switchLock', 2),
    disabledPorts: integer(opaque, 'disabledPorts', 2),
  };
}

type Opaque = SpdmReport['opaque'];
type Field = keyof typeof OPAQUE;

function sized(opaque: Opaque, field: Field, length: number): Uint8Array | undefined {
  const value = opaque.get(OPAQUE[field]);
  if (value !== undefined && value.length !== length)
    refuse('parse/length', `opaque ${field} has ${value.length} bytes, expected ${length}`);
  return value;
}

function integer(opaque: Opaque, field: Field, length: number): number | undefined {
  return sized(opaque, field, length)?.reduceRight((value, byte) => value * 256 + byte, 0);
}

function toggle(opaque: Opaque, field: Field): Toggle | undefined {
  const value = sized(opaque, field, 1)?.[0];
  if (value === undefined) return undefined;
  return value === 0xaa ? 'on' : value === 0x55 ? 'off' : 'unknown';
}

function featureMode(flag: number | undefined): FeatureMode | undefined {
  if (flag === undefined) return undefined;
  return (['single-passthrough', 'multi-gpu-passthrough', 'protected-pcie'] as const)[flag] ?? 'unknown';
}

/** Printable ASCII, padded with NULs. */
function text(opaque: Opaque, field: Field): string | undefined {
  const bytes = opaque.get(OPAQUE[field]);
  if (bytes === undefined) return undefined;
  const end = bytes.indexOf(0);
  const content = end === -1 ? bytes : bytes.subarray(0, end);
  if (content.some((byte) => byte < 0x20 || byte > 0x7e)) refuse('parse/length', `opaque ${field} is not ASCII`);
  if (end !== -1 && bytes.subarray(end).some((byte) => byte !== 0))
    refuse('parse/leftover', `opaque ${field} has bytes behind its end`);
  return fromUtf8(content, 'CFN_EVIDENCE_MALFORMED');
}

function printVbios(bytes: Uint8Array | undefined): string | undefined {
  if (bytes === undefined) return undefined;
  if (bytes.length < 5) refuse('parse/length', `opaque vbiosVersion has ${bytes.length} bytes, expected at least 5`);
  const [b0 = 0, b1 = 0, b2 = 0, b3 = 0, b4 = 0] = bytes;
  return [b3, b2, b1, b0, b4].map((byte) => toHex(Uint8Array.of(byte)).toUpperCase()).join('.');
}

function counts(opaque: Opaque): number[] | undefined {
  const bytes = opaque.get(OPAQUE.measurementCounts);
  if (bytes === undefined) return undefined;
  return split(bytes, 4, 'measurementCounts').map((item) => item.reduceRight((value, byte) => value * 256 + byte, 0));
}

/** GPUs write the ids little-endian, switches their own big-endian; unused links are zero (measured on a machine of 8 and 4). */
function switchPdis(opaque: Opaque): string[] | undefined {
  const bytes = opaque.get(OPAQUE.switchPdis);
  if (bytes === undefined) return undefined;
  const ids = split(bytes, PDI_BYTES, 'switchPdis').map((id) => toHex(id.toReversed()));
  return unique(ids.filter((id) => !/^0+$/.test(id)));
}

function gpuPdis(opaque: Opaque): string[] | undefined {
  const bytes = opaque.get(OPAQUE.gpuPdis);
  if (bytes === undefined) return undefined;
  if (bytes.length < SWITCH_GPUS * PDI_BYTES)
    refuse('parse/length', `opaque gpuPdis has ${bytes.length} bytes, expected at least ${SWITCH_GPUS * PDI_BYTES}`);
  const ids = split(bytes.subarray(0, SWITCH_GPUS * PDI_BYTES), PDI_BYTES, 'gpuPdis').map((id) => toHex(id));
  return unique(ids.filter((id) => !/^(?:0+|f+)$/.test(id)));
}

function split(bytes: Uint8Array, size: number, field: Field): Uint8Array[] {
  if (bytes.length % size !== 0)
    refuse('parse/length', `opaque ${field} has ${bytes.length} bytes, expected a multiple of ${size}`);
  return Array.from({ length: bytes.length / size }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
}

function unique(ids: readonly string[]): string[] {
  return [...new Set(ids)].sort();
}
