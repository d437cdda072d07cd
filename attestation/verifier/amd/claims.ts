import { toHex } from '../../../proto/index.ts';
import type { AmdLeaf } from '../../evidence/amd-certificate.ts';
import { tcbLayout, type AmdProduct, type Tcb } from '../../evidence/amd-product.ts';
import type { FirmwareVersion, SnpReport } from '../../evidence/snp.ts';

/** What a SEV-SNP report says, for people, logs and results. Byte strings and bit fields are hexadecimal, lower case. */
export interface SnpClaims {
  readonly kind: 'sev-snp';
  readonly version: number;
  readonly product: AmdProduct | undefined;
  readonly signer: SnpReport['signer'];
  /** As the certificate names it, such as `Milan-B0`; and the provider whose VLEK it is. */
  readonly productName: string | undefined;
  readonly cspId: string | undefined;
  readonly cpu: SnpReport['cpu'];
  readonly guestSvn: number;
  readonly guestPolicy: string;
  readonly vmpl: number;
  readonly platformInfo: string;
  readonly familyId: string;
  readonly imageId: string;
  readonly reportData: string;
  readonly measurement: string;
  readonly hostData: string;
  readonly idKeyDigest: string;
  readonly authorKeyDigest: string;
  readonly reportId: string;
  readonly reportIdOfMigrationAgent: string;
  readonly chipId: string;
  readonly currentTcb: TcbClaim;
  readonly reportedTcb: TcbClaim;
  readonly committedTcb: TcbClaim;
  readonly launchTcb: TcbClaim;
  /** `major.minor.build`. */
  readonly currentFirmware: string;
  readonly committedFirmware: string;
  readonly launchMitigations: string | undefined;
  readonly currentMitigations: string | undefined;
}

interface TcbClaim {
  /** The eight bytes, in the report's order. */
  readonly bytes: string;
  /** By name, when the product is known. */
  readonly levels: Tcb | undefined;
}

export function collectSnpClaims(
  report: SnpReport,
  product: AmdProduct | undefined,
  leaf: AmdLeaf | undefined,
): SnpClaims {
  const tcb = (bytes: Uint8Array): TcbClaim => ({
    bytes: toHex(bytes),
    levels: product && levels(bytes, product),
  });
  return {
    kind: 'sev-snp',
    version: report.version,
    product,
    signer: report.signer,
    productName: leaf?.productName,
    cspId: leaf?.cspId,
    cpu: report.cpu,
    guestSvn: report.guestSvn,
    guestPolicy: hex64(report.guestPolicy.bits),
    vmpl: report.vmpl,
    platformInfo: hex64(report.platformInfo.bits),
    familyId: toHex(report.familyId),
    imageId: toHex(report.imageId),
    reportData: toHex(report.reportData),
    measurement: toHex(report.measurement),
    hostData: toHex(report.hostData),
    idKeyDigest: toHex(report.idKeyDigest),
    authorKeyDigest: toHex(report.authorKeyDigest),
    reportId: toHex(report.reportId),
    reportIdOfMigrationAgent: toHex(report.reportIdOfMigrationAgent),
    chipId: toHex(report.chipId),
    currentTcb: tcb(report.currentTcb),
    reportedTcb: tcb(report.reportedTcb),
    committedTcb: tcb(report.committedTcb),
    launchTcb: tcb(report.launchTcb),
    currentFirmware: firmware(report.currentFirmware),
    committedFirmware: firmware(report.committedFirmware),
    launchMitigations: report.launchMitigations === undefined ? undefined : hex64(report.launchMitigations),
    currentMitigations: report.currentMitigations === undefined ? undefined : hex64(report.currentMitigations),
  };
}

/** Without the demand that reserved bytes are zero, which is a check and not a claim. */
function levels(bytes: Uint8Array, product: AmdProduct): Tcb {
  return Object.fromEntries(Object.entries(tcbLayout(product)).map(([component, index]) => [component, bytes[index]]));
}

function firmware({ major, minor, build }: FirmwareVersion): string {
  return `${major}.${minor}.${build}`;
}

function hex64(bits: bigint): string {
  return bits.toString(16).padStart(16, '0');
}
