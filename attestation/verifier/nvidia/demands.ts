import type { FeatureMode } from '../../evidence/nvidia.ts';

/** A demand on a version: one of a list, at least, or none, with the reason. An empty list accepts nothing. */
export type VersionDemand =
  { readonly oneOf: readonly string[] } | { readonly minimum: string } | { readonly notChecked: string };

/** What a relying party demands of verified GPUs. Every member is required; what is not demanded says why. */
export interface GpuDemands {
  readonly countMin: number;
  readonly countMax: number;
  readonly architectures: readonly ('HOPPER' | 'BLACKWELL')[];
  /** Parts are decimal. */
  readonly driver: VersionDemand;
  /** Parts are hexadecimal. */
  readonly vbios: VersionDemand;
  /** The report must name its firmware id, which is then the certificate's. Drivers before 550 do not. */
  readonly firmwareId: 'required' | { readonly whenReported: string };
  /**
   * Where golden values must come from: NVIDIA's RIMs of driver and VBIOS, or values of our own by RIM index, any one of a list.
   * RIMs that are there count in any case. That debugging is off follows from golden values alone.
   */
  readonly measurements:
    'rims' | { readonly values: Readonly<Record<string, readonly string[]>> } | { readonly notChecked: string };
  readonly modes: readonly FeatureMode[] | { readonly notChecked: string };
  /** Reports of all switches, where GPUs are behind switches (protected PCIe). Those that are there count in any case. */
  readonly switches: 'required' | { readonly whenSupplied: string };
}

/** What a relying party demands of verified switches. */
export type SwitchDemands = { readonly measurements: 'rims' | { readonly notChecked: string } };
