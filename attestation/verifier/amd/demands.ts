import type { AmdProduct, TcbComponent } from '../../evidence/amd-product.ts';
import type { GuestPolicyFlag, PlatformInfoFlag } from '../../evidence/snp-bits.ts';
import type { FirmwareVersion } from '../../evidence/snp.ts';

/** A demand that is not made, and why; every result repeats it. */
export interface NotChecked {
  readonly notChecked: string;
}
export type BitDemand = 'required' | 'forbidden' | NotChecked;
/** Reference values, lower-case hexadecimal; any one of them is accepted, so an empty list accepts nothing. */
export type ReferencesDemand = readonly string[] | NotChecked;
/** Least patch level of each part, by product. A product that is not named is refused. */
export type TcbDemand = Readonly<Partial<Record<AmdProduct, TcbMinimum>>> | NotChecked;
/** Parts that the product has and that are not named may be at any level; a part that it lacks cannot be met. */
export type TcbMinimum = Readonly<Partial<Record<TcbComponent, number>>>;

/**
 * What is demanded of a genuine SEV-SNP report (attestation-formats §3.3, steps 7 and 8): each field is a value, or says why it is
 * not checked. REPORT_DATA is not among them: it is compared by whoever knows the nonce and the keys.
 */
export interface SnpDemands {
  readonly products: readonly AmdProduct[] | NotChecked;
  /** Whose key signed: the chip's (VCEK), or the cloud provider's (VLEK). */
  readonly signers: readonly ('VCEK' | 'VLEK')[] | NotChecked;
  /** Chips, 64 bytes each. A masked id is in no list. */
  readonly chipId: ReferencesDemand;
  /** Providers that may hold the VLEK, such as `CN=cc-us-east-2.amazonaws.com`. A VCEK has none, and is not asked for one. */
  readonly cspId: readonly string[] | NotChecked;

  /** Guest policy: what the guest lets the host do. */
  readonly guestPolicy: Readonly<Record<GuestPolicyFlag, BitDemand>>;
  /** Least firmware ABI in the guest policy, which older firmware refuses to start. */
  readonly guestPolicyAbiMin: { readonly major: number; readonly minor: number } | NotChecked;
  /** What the platform does, whatever the guest policy allows. */
  readonly platformInfo: Readonly<Record<PlatformInfoFlag, BitDemand>>;
  /** Platform info bits that this version does not know. */
  readonly platformInfoUnknown: 'forbidden' | NotChecked;
  readonly vmpl: readonly number[] | NotChecked;

  readonly reportedTcbMin: TcbDemand;
  /** What the firmware cannot be rolled back below. */
  readonly committedTcbMin: TcbDemand;
  /** At the guest's start. */
  readonly launchTcbMin: TcbDemand;
  /** Firmware that is loaded and not yet committed, so that it can be rolled back. */
  readonly provisionalFirmware: 'forbidden' | NotChecked;
  /** Least committed firmware. */
  readonly firmwareMin: FirmwareVersion | NotChecked;
  /** Mitigation bits that must be set, as 64 bits in hexadecimal; reports below version 5 have none. */
  readonly launchMitigations: string | NotChecked;
  readonly currentMitigations: string | NotChecked;

  readonly measurement: ReferencesDemand;
  readonly hostData: ReferencesDemand;
  readonly familyId: ReferencesDemand;
  readonly imageId: ReferencesDemand;
  readonly idKeyDigest: ReferencesDemand;
  /** An author key that is not in use does not match, whatever the digest field holds. */
  readonly authorKeyDigest: ReferencesDemand;
  readonly reportIdOfMigrationAgent: ReferencesDemand;
  readonly guestSvnMin: number | NotChecked;
}
