import { ByteReader } from '../../proto/index.ts';
import { productOfCpu, TCB_BYTES, type AmdProduct } from './amd-product.ts';
import { refuse } from './reasons.ts';
import { readGuestPolicy, readPlatformInfo, type GuestPolicy, type PlatformInfo } from './snp-bits.ts';

export const SNP_REPORT_BYTES = 1184;
/** The report's own hash covers the bytes before its signature. */
const SIGNED_BYTES = 0x2a0;
const SIGNATURE_ECDSA_P384_SHA384 = 1;
const SCALAR_BYTES = 48;
const SCALAR_FIELD_BYTES = 72;

/** Who signed: a key of the chip and its TCB, one that AMD issued to a cloud provider, or nobody. */
export type SnpSigner = 'VCEK' | 'VLEK' | 'none';

export interface FirmwareVersion {
  readonly major: number;
  readonly minor: number;
  readonly build: number;
}

/** Attestation report of the SEV-SNP firmware (SEV-SNP ABI 56860, ATTESTATION_REPORT). Bytes are views into the input. */
export interface SnpReport {
  readonly version: 2 | 3 | 4 | 5;
  readonly guestSvn: number;
  readonly guestPolicy: GuestPolicy;
  /** 16 bytes each, chosen by the guest's owner. */
  readonly familyId: Uint8Array;
  readonly imageId: Uint8Array;
  /** Privilege level that asked: 0 to 3, or 0xffffffff when the host did. */
  readonly vmpl: number;
  /** TCB versions, 8 bytes, laid out as the product demands; see `readTcb`. */
  readonly currentTcb: Uint8Array;
  readonly platformInfo: PlatformInfo;
  readonly authorKeyPresent: boolean;
  /** The platform withholds the chip's key: such reports are not signed by it. */
  readonly maskChipKey: boolean;
  readonly signer: SnpSigner;
  /** 64 bytes chosen by the guest. */
  readonly reportData: Uint8Array;
  /** SHA-384 of the initial memory and state. */
  readonly measurement: Uint8Array;
  /** 32 bytes chosen by the host at launch. */
  readonly hostData: Uint8Array;
  /** SHA-384 of the keys that signed the guest's id block; zeros when there was none. */
  readonly idKeyDigest: Uint8Array;
  readonly authorKeyDigest: Uint8Array;
  readonly reportId: Uint8Array;
  /** All ones when the guest has no migration agent. */
  readonly reportIdOfMigrationAgent: Uint8Array;
  /** The TCB that the signing key is derived from. */
  readonly reportedTcb: Uint8Array;
  /** From version 3 on. */
  readonly cpu: { readonly family: number; readonly model: number; readonly stepping: number } | undefined;
  /** From the CPUID; reports of version 2 do not say. */
  readonly product: AmdProduct | undefined;
  /** 64 bytes; zeros when masked. Turin uses the first eight. */
  readonly chipId: Uint8Array;
  readonly committedTcb: Uint8Array;
  readonly currentFirmware: FirmwareVersion;
  readonly committedFirmware: FirmwareVersion;
  readonly launchTcb: Uint8Array;
  /** Mitigations that were in force, as bits; from version 5 on. */
  readonly launchMitigations: bigint | undefined;
  readonly currentMitigations: bigint | undefined;
  readonly signedBytes: Uint8Array;
  /** r ‖ s, big endian, 96 bytes. */
  readonly signature: Uint8Array<ArrayBuffer>;
}

/**
 * Parses a report of version 2 to 5, exactly 1184 bytes. What the ABI reserves must be zero, except platform info, whose bits
 * newer firmware adds to without a new version.
 *
 * @throws {Refusal} `parse/…`
 */
export function parseSnpReport(bytes: Uint8Array): SnpReport {
  if (bytes.length === 0) refuse('parse/empty', 'SNP report is empty');
  if (bytes.length < SNP_REPORT_BYTES)
    refuse('parse/truncated', `SNP report has ${bytes.length} bytes, expected ${SNP_REPORT_BYTES}`);
  if (bytes.length > SNP_REPORT_BYTES)
    refuse('parse/leftover', `SNP report has ${bytes.length} bytes, expected ${SNP_REPORT_BYTES}`);
  const reader = new ByteReader(bytes);
  const version = parseVersion(reader);
  // Read in the order of the fields, as they stand in the report.
  const guest = {
    guestSvn: reader.u32le('GUEST_SVN'),
    guestPolicy: readGuestPolicy(reader.u64le('POLICY')),
    familyId: reader.take(16, 'FAMILY_ID'),
    imageId: reader.take(16, 'IMAGE_ID'),
    vmpl: reader.u32le('VMPL'),
  };
  requireAlgorithm(reader.u32le('SIGNATURE_ALGO'));
  const platform = {
    currentTcb: reader.take(TCB_BYTES, 'CURRENT_TCB'),
    platformInfo: readPlatformInfo(reader.u64le('PLATFORM_INFO')),
    ...parseSignerInfo(reader),
  };
  const identity = {
    reportData: reader.take(64, 'REPORT_DATA'),
    measurement: reader.take(48, 'MEASUREMENT'),
    hostData: reader.take(32, 'HOST_DATA'),
    idKeyDigest: reader.take(48, 'ID_KEY_DIGEST'),
    authorKeyDigest: reader.take(48, 'AUTHOR_KEY_DIGEST'),
    reportId: reader.take(32, 'REPORT_ID'),
    reportIdOfMigrationAgent: reader.take(32, 'REPORT_ID_MA'),
  };
  const chip = {
    reportedTcb: reader.take(TCB_BYTES, 'REPORTED_TCB'),
    ...parseCpu(reader, version),
    chipId: reader.take(64, 'CHIP_ID'),
  };
  const firmware = {
    committedTcb: reader.take(TCB_BYTES, 'COMMITTED_TCB'),
    currentFirmware: parseFirmware(reader, 'CURRENT'),
    committedFirmware: parseFirmware(reader, 'COMMITTED'),
    launchTcb: reader.take(TCB_BYTES, 'LAUNCH_TCB'),
    ...parseMitigations(reader, version),
  };
  zeros(reader, SIGNED_BYTES - reader.offset, '0x208');
  const signature = parseSignature(reader);
  zeros(reader, reader.remaining, 'signature padding');
  const signedBytes = bytes.subarray(0, SIGNED_BYTES);
  return { version, ...guest, ...platform, ...identity, ...chip, ...firmware, signedBytes, signature };
}

function parseVersion(reader: ByteReader): SnpReport['version'] {
  const version = reader.u32le('VERSION');
  if (version !== 2 && version !== 3 && version !== 4 && version !== 5)
    refuse('parse/unsupported-version', `SNP report version is ${version}, expected 2 to 5`);
  return version;
}

function requireAlgorithm(algorithm: number): void {
  if (algorithm !== SIGNATURE_ECDSA_P384_SHA384)
    refuse('parse/unsupported-algorithm', `SIGNATURE_ALGO is ${algorithm}, expected 1 (ECDSA P-384 with SHA-384)`);
}

function parseSignerInfo(reader: ByteReader): Pick<SnpReport, 'authorKeyPresent' | 'maskChipKey' | 'signer'> {
  const value = reader.u32le('signer info');
  zeros(reader, 4, '0x4c');
  if (value >>> 5 !== 0) refuse('parse/reserved', `signer info is 0x${value.toString(16)}, bits 5 to 31 are reserved`);
  const key = value >>> 2;
  const signer = key === 0 ? 'VCEK' : key === 1 ? 'VLEK' : key === 7 ? 'none' : undefined;
  if (signer === undefined) refuse('parse/unsupported-key-type', `SIGNING_KEY is ${key}, expected 0, 1 or 7`);
  return { authorKeyPresent: (value & 1) !== 0, maskChipKey: (value & 2) !== 0, signer };
}

function parseCpu(reader: ByteReader, version: SnpReport['version']): Pick<SnpReport, 'cpu' | 'product'> {
  if (version === 2) {
    zeros(reader, 24, '0x188');
    return { cpu: undefined, product: undefined };
  }
  const cpu = { family: reader.u8('CPUID family'), model: reader.u8('CPUID model'), stepping: reader.u8('stepping') };
  zeros(reader, 21, '0x18b');
  const product = productOfCpu(cpu.family, cpu.model);
  if (product === undefined) {
    const name = `family 0x${cpu.family.toString(16)} model 0x${cpu.model.toString(16)}`;
    refuse('parse/unsupported-tee', `CPUID ${name} is of no known SEV-SNP product`);
  }
  return { cpu, product };
}

function parseFirmware(reader: ByteReader, which: string): FirmwareVersion {
  const build = reader.u8(`${which}_BUILD`);
  const minor = reader.u8(`${which}_MINOR`);
  const major = reader.u8(`${which}_MAJOR`);
  zeros(reader, 1, `after ${which}_MAJOR`);
  return { major, minor, build };
}

function parseMitigations(
  reader: ByteReader,
  version: SnpReport['version'],
): Pick<SnpReport, 'launchMitigations' | 'currentMitigations'> {
  if (version === 5) {
    const launchMitigations = reader.u64le('LAUNCH_MIT_VECTOR');
    return { launchMitigations, currentMitigations: reader.u64le('CURRENT_MIT_VECTOR') };
  }
  zeros(reader, 16, '0x1f8');
  return { launchMitigations: undefined, currentMitigations: undefined };
}

/** R and S stand little endian in 72 bytes each; WebCrypto takes them big endian, 48 bytes each. */
function parseSignature(reader: ByteReader): Uint8Array<ArrayBuffer> {
  const signature = new Uint8Array(2 * SCALAR_BYTES);
  for (const [index, name] of ['R', 'S'].entries()) {
    signature.set(reader.take(SCALAR_BYTES, name).toReversed(), index * SCALAR_BYTES);
    zeros(reader, SCALAR_FIELD_BYTES - SCALAR_BYTES, `above ${name}`);
  }
  return signature;
}

function zeros(reader: ByteReader, length: number, where: string): void {
  if (reader.take(length, where).some((byte) => byte !== 0))
    refuse('parse/reserved', `reserved bytes of the SNP report are not zero (${where})`);
}
