import { ByteReader, CfnError } from '../../../proto/index.ts';
import { refuse } from '../../evidence/reasons.ts';

/**
 * Memory layouts of NVML (`nvml.h`, API version 12 and 13). All members are `unsigned int` (4 bytes, little endian on every platform
 * that has these GPUs) or `unsigned char` arrays, so there is no padding.
 */

/** `nvmlConfComputeSystemState_t` */
export const STATE_BYTES = 12;
/** `nvmlSystemConfComputeSettings_v1_t` */
export const SETTINGS_BYTES = 20;
/** `NVML_STRUCT_VERSION(SystemConfComputeSettings, 1)` */
export const SETTINGS_VERSION = SETTINGS_BYTES | (1 << 24);
const CERT_CHAIN_BYTES = 0x1000;
const ATTESTATION_CERT_CHAIN_BYTES = 0x1400;
/** `nvmlConfComputeGpuCertificate_t` */
export const CERTIFICATE_BYTES = 8 + CERT_CHAIN_BYTES + ATTESTATION_CERT_CHAIN_BYTES;
const NONCE_AT = 12;
const NONCE_BYTES = 32;
const REPORT_BYTES = 0x2000;
const CEC_REPORT_BYTES = 0x1000;
/** `nvmlConfComputeGpuAttestationReport_t` */
export const ATTESTATION_REPORT_BYTES = NONCE_AT + NONCE_BYTES + REPORT_BYTES + CEC_REPORT_BYTES;
/** `NVML_SYSTEM_DRIVER_VERSION_BUFFER_SIZE` */
export const DRIVER_VERSION_BYTES = 80;
/** `NVML_DEVICE_VBIOS_VERSION_BUFFER_SIZE` */
export const VBIOS_VERSION_BYTES = 32;

/** Values of `nvmlReturn_t` that somebody acts on. */
export const NVML = {
  success: 0,
  notSupported: 3,
  driverNotLoaded: 9,
  timeout: 10,
  functionNotFound: 13,
  inUse: 19,
  versionMismatch: 25,
  notReady: 27,
} as const;

/** State of confidential computing on this system. */
export interface ConfComputeSettings {
  /** 0 unavailable, 1 simulation, 2 production. */
  readonly environment: number;
  /** 0 off, 1 on. */
  readonly ccFeature: number;
  /** 0 off, 1 on. */
  readonly devToolsMode: number;
  /** 0 none, 1 protected PCIe, 2 NVLink encryption; `undefined` from drivers that do not know modes. */
  readonly multiGpuMode: number | undefined;
}

export function decodeState(bytes: Uint8Array): ConfComputeSettings {
  const reader = new ByteReader(bytes);
  return {
    environment: reader.u32le('environment'),
    ccFeature: reader.u32le('ccFeature'),
    devToolsMode: reader.u32le('devToolsMode'),
    multiGpuMode: undefined,
  };
}

export function settingsRequest(): Uint8Array {
  const bytes = new Uint8Array(SETTINGS_BYTES);
  new DataView(bytes.buffer).setUint32(0, SETTINGS_VERSION, true);
  return bytes;
}

export function decodeSettings(bytes: Uint8Array): ConfComputeSettings {
  const reader = new ByteReader(bytes);
  reader.u32le('version');
  return { ...decodeState(reader.take(STATE_BYTES, 'state')), multiGpuMode: reader.u32le('multiGpuMode') };
}

export function reportRequest(nonce: Uint8Array): Uint8Array {
  if (nonce.length !== NONCE_BYTES)
    throw new CfnError('CFN_INPUT_INVALID', `GPU nonce has ${nonce.length} bytes, expected ${NONCE_BYTES}`);
  const bytes = new Uint8Array(ATTESTATION_REPORT_BYTES);
  bytes.set(nonce, NONCE_AT);
  return bytes;
}

/** The SPDM report; the CEC's own report is not asked for by any verifier. */
export function decodeReport(bytes: Uint8Array): Uint8Array {
  const reader = new ByteReader(bytes);
  reader.u32le('isCecAttestationReportPresent');
  const size = reader.u32le('attestationReportSize');
  reader.u32le('cecAttestationReportSize');
  reader.take(NONCE_BYTES, 'nonce');
  return sized(reader.take(REPORT_BYTES, 'attestationReport'), size, 'attestation report');
}

/** The device chain as PEM text, leaf first. */
export function decodeCertificates(bytes: Uint8Array): string {
  const reader = new ByteReader(bytes);
  reader.u32le('certChainSize');
  const size = reader.u32le('attestationCertChainSize');
  reader.take(CERT_CHAIN_BYTES, 'certChain');
  const chain = sized(reader.take(ATTESTATION_CERT_CHAIN_BYTES, 'attestationCertChain'), size, 'certificate chain');
  const text = decodeText(chain);
  if (!text.startsWith('-----BEGIN CERTIFICATE-----'))
    refuse('collect/gpu-call', 'NVML returned a certificate chain that is not PEM');
  return text;
}

/** C text: up to the first NUL. */
export function decodeText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const text = new TextDecoder('latin1').decode(end === -1 ? bytes : bytes.subarray(0, end));
  if (!/^[\x20-\x7e\r\n]*$/.test(text)) refuse('collect/gpu-call', 'NVML returned text that is not ASCII');
  return text;
}

/** The library states how much of its array it filled; more than the array means that its layout is not ours. */
function sized(array: Uint8Array, size: number, what: string): Uint8Array {
  if (size === 0 || size > array.length)
    refuse('collect/gpu-call', `NVML states a ${what} of ${size} bytes, expected 1 to ${array.length}`);
  return array.slice(0, size);
}
