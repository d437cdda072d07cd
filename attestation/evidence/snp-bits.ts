import { refuse } from './reasons.ts';

/** Guest policy: what the guest's owner allows the host to do (SEV-SNP ABI, table 10). */
export interface GuestPolicy {
  readonly bits: bigint;
  /** Least firmware ABI that may run the guest. */
  readonly abiMajor: number;
  readonly abiMinor: number;
  readonly flags: Readonly<Record<GuestPolicyFlag, boolean>>;
}

/** Bit of each flag. For the last three and `raplOff` a set bit restricts the host; for the others it allows something. */
const POLICY_BITS = {
  smt: 16n,
  migrationAgent: 18n,
  debug: 19n,
  singleSocket: 20n,
  cxl: 21n,
  aes256Xts: 22n,
  raplOff: 23n,
  ciphertextHiding: 24n,
  pageSwapOff: 25n,
} as const;
export type GuestPolicyFlag = keyof typeof POLICY_BITS;
export const GUEST_POLICY_FLAGS = flagsOf(POLICY_BITS);
const POLICY_ALWAYS_ONE = 1n << 17n;
const POLICY_RESERVED_FROM = 26n;

/** What the platform does, as the firmware reports it (SEV-SNP ABI, PLATFORM_INFO). */
export interface PlatformInfo {
  readonly bits: bigint;
  readonly flags: Readonly<Record<PlatformInfoFlag, boolean>>;
}

const PLATFORM_BITS = {
  smt: 0n,
  tsme: 1n,
  ecc: 2n,
  raplOff: 3n,
  ciphertextHiding: 4n,
  aliasCheckComplete: 5n,
  tio: 7n,
} as const;
export type PlatformInfoFlag = keyof typeof PLATFORM_BITS;
export const PLATFORM_INFO_FLAGS = flagsOf(PLATFORM_BITS);
/** Bits that have a name here. */
export const PLATFORM_INFO_KNOWN = Object.values<bigint>(PLATFORM_BITS).reduce(
  (bits, place) => bits | (1n << place),
  0n,
);

/** @throws {Refusal} `parse/reserved` when bit 17 is not 1, or bits 26 to 63 are not 0. */
export function readGuestPolicy(bits: bigint): GuestPolicy {
  if ((bits & POLICY_ALWAYS_ONE) === 0n || bits >> POLICY_RESERVED_FROM !== 0n)
    refuse('parse/reserved', `guest policy is 0x${bits.toString(16)}: bit 17 must be 1 and bits 26 to 63 must be 0`);
  const abiMinor = Number(bits & 0xffn);
  const abiMajor = Number((bits >> 8n) & 0xffn);
  return { bits, abiMajor, abiMinor, flags: readFlags(bits, POLICY_BITS) };
}

/** Bits beyond the known ones are kept in `bits`: firmware adds to them. */
export function readPlatformInfo(bits: bigint): PlatformInfo {
  return { bits, flags: readFlags(bits, PLATFORM_BITS) };
}

function readFlags<Flag extends string>(bits: bigint, places: Readonly<Record<Flag, bigint>>): Record<Flag, boolean> {
  const read = flagsOf(places).map((flag) => [flag, ((bits >> places[flag]) & 1n) === 1n]);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the keys are those of `places`
  return Object.fromEntries(read) as Record<Flag, boolean>;
}

function flagsOf<Flag extends string>(places: Readonly<Record<Flag, bigint>>): readonly Flag[] {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a record made here, with no other keys
  return Object.keys(places) as Flag[];
}
