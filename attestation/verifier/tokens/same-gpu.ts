import { toHex } from '../../../proto/index.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { NrasDeviceClaims } from './nras.ts';

/** What a local report and its certificate chain say of a device. */
export interface LocalDevice {
  /** Leaf of the device's chain. */
  readonly leaf: Certificate;
  /** From the report's opaque data; `undefined` when it does not say. */
  readonly driverVersion: string | undefined;
  readonly vbiosVersion: string | undefined;
}

/**
 * Requires that NRAS judged the very device whose report is at hand. `ueid` is the serial number of the device's leaf certificate
 * (`… GSP FMC LF`, `… FSP FMC LF`) in decimal: measured on three recordings, the H100 of driver 550.90.07, an H100 of driver
 * 595.71.05 and an LS10 switch. `hwmodel` begins with the chip that the leaf's common name begins with.
 *
 * @throws {Refusal} `binding/gpu-identity`
 */
export function requireSameGpu(device: NrasDeviceClaims, local: LocalDevice): void {
  const differences = [
    ...difference('ueid', device.ueid, ueidOf(local.leaf) ?? null),
    ...difference('chip', firstWord(device.hardwareModel), firstWord(local.leaf.subjectCommonName)),
    ...versionDifference('driver version', device.driverVersion, local.driverVersion),
    ...versionDifference('VBIOS version', device.vbiosVersion, local.vbiosVersion),
  ];
  if (differences.length > 0)
    refuse('binding/gpu-identity', `NRAS ${device.name} is not the device of the report: ${differences.join('; ')}`);
}

/** What NRAS calls a device: its certificate's serial number, decimal. */
export function ueidOf(leaf: Certificate | undefined): string | undefined {
  return leaf && BigInt(`0x${toHex(leaf.serial) || '0'}`).toString();
}

function difference(name: string, judged: string | null, local: string | null): string[] {
  return judged !== null && judged === local
    ? []
    : [`${name} ${judged ?? 'absent'} in the token, ${local ?? 'absent'} here`];
}

function versionDifference(name: string, judged: string | null, local: string | undefined): string[] {
  return local === undefined ? [] : difference(name, judged?.toUpperCase() ?? null, local.toUpperCase());
}

function firstWord(text: string | null): string | null {
  return text?.split(' ', 1)[0] ?? null;
}
