import { equalBytes, toHex } from '../../../proto/index.ts';
import type { ComponentLevel, ModuleIdentity, PlatformLevel, QeIdentity, TcbInfo } from '../../evidence/intel-tcb.ts';
import type { SgxExtension } from '../../evidence/pck.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { QeReport, TdReport } from '../../evidence/tdx.ts';

/** What TCB_SVN bytes of a TD report mean. */
export const SVN_MODULE_MINOR = 0;
export const SVN_MODULE_MAJOR = 1;
const SVN_LATE_MICROCODE = 2;

export interface MatchedLevels {
  /** First level whose SGX part (CPU SVNs and PCESVN) the platform reaches. */
  readonly sgx: PlatformLevel | undefined;
  /** First level that it reaches as a whole; this one gives the status. */
  readonly tdx: PlatformLevel | undefined;
}

/** Walks Intel's levels in their order, newest first. */
export function matchPlatformLevel(tcbInfo: TcbInfo, pck: SgxExtension, teeTcbSvn: Uint8Array): MatchedLevels {
  // From major version 1 on the module has levels of its own, and its SVNs (0 and 1) do not count here.
  const from = (teeTcbSvn[SVN_MODULE_MAJOR] ?? 0) > 0 ? SVN_LATE_MICROCODE : SVN_MODULE_MINOR;
  const sgxMatches = tcbInfo.tcbLevels.filter(
    ({ tcb }) => reaches(pck.tcbComponents, tcb.sgxtcbcomponents, 0) && pck.pceSvn >= tcb.pcesvn,
  );
  return { sgx: sgxMatches[0], tdx: sgxMatches.find(({ tcb }) => reaches(teeTcbSvn, tcb.tdxtcbcomponents, from)) };
}

function reaches(have: ArrayLike<number>, need: readonly number[], from: number): boolean {
  return need.every((svn, index) => index < from || (have[index] ?? -1) >= svn);
}

/** First level, newest first, that an SVN reaches. */
export function matchComponentLevel(levels: readonly ComponentLevel[], isvsvn: number): ComponentLevel | undefined {
  return levels.find(({ tcb }) => isvsvn >= tcb.isvsvn);
}

/** Identity of the module with this major version; those before 1 have none. */
export function findModuleIdentity({ tdxModuleIdentities }: TcbInfo, major: number): ModuleIdentity | undefined {
  const id = `TDX_${toHex(Uint8Array.of(major))}`.toUpperCase();
  return tdxModuleIdentities.find((identity) => identity.id.toUpperCase() === id);
}

/**
 * The TDX module must be the one that the TCB info describes.
 *
 * @throws {Refusal} `tcb/module-unknown`, `tcb/module-signer`
 */
export function requireModuleIdentity(tcbInfo: TcbInfo, { teeTcbSvn, mrsignerseam, seamAttributes }: TdReport): void {
  const major = teeTcbSvn[SVN_MODULE_MAJOR] ?? 0;
  const expected = major === 0 ? tcbInfo.tdxModule : findModuleIdentity(tcbInfo, major);
  if (expected === undefined) refuse('tcb/module-unknown', `TCB info knows no TDX module of major version ${major}`);
  if (!equalBytes(mrsignerseam, expected.mrsigner))
    refuse('tcb/module-signer', `the TDX module has the signer ${toHex(mrsignerseam)}`);
  if ((seamAttributes & littleEndian(expected.attributesMask)) !== littleEndian(expected.attributes))
    refuse('tcb/module-signer', `the TDX module has SEAMATTRIBUTES 0x${seamAttributes.toString(16)}`);
}

/**
 * The report that vouches for the attestation key must be of Intel's TD quoting enclave: any enclave with provisioning rights can
 * have its report signed by the PCK key.
 *
 * @throws {Refusal} `tcb/qe-identity`
 */
export function requireQeIdentity(identity: QeIdentity, report: QeReport): void {
  const miscSelect = littleEndian(identity.miscselectMask) & BigInt(report.miscSelect);
  if (miscSelect !== littleEndian(identity.miscselect))
    refuse('tcb/qe-identity', `the quoting enclave has MISCSELECT 0x${report.miscSelect.toString(16)}`);
  const attributes = report.attributes.map((byte, index) => byte & (identity.attributesMask[index] ?? 0));
  if (!equalBytes(attributes, identity.attributes))
    refuse('tcb/qe-identity', `the quoting enclave has ATTRIBUTES ${toHex(report.attributes)}`);
  if (!equalBytes(report.mrsigner, identity.mrsigner))
    refuse('tcb/qe-identity', `the quoting enclave has the signer ${toHex(report.mrsigner)}`);
  if (report.isvProdId !== identity.isvprodid)
    refuse('tcb/qe-identity', `the quoting enclave has ISVPRODID ${report.isvProdId}, expected ${identity.isvprodid}`);
}

function littleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${toHex(bytes.toReversed())}`);
}

/**
 * Whether the module that is loaded now, and the late microcode with it, are the newest that Intel knows.
 *
 * @throws {Refusal} `tcb/module-unknown`
 */
export function isNewest(tcbInfo: TcbInfo, teeTcbSvn2: Uint8Array): boolean {
  const [minor = 0, major = 0, microcode = 0] = teeTcbSvn2;
  const newest = tcbInfo.tcbLevels[0]?.tcb.tdxtcbcomponents ?? [];
  const identity = major === 0 ? undefined : findModuleIdentity(tcbInfo, major);
  if (major > 0 && identity === undefined)
    refuse('tcb/module-unknown', `TCB info knows no TDX module of major version ${major}`);
  const newestMinor = identity === undefined ? newest[SVN_MODULE_MINOR] : identity.tcbLevels[0]?.tcb.isvsvn;
  return minor >= (newestMinor ?? Infinity) && microcode >= (newest[SVN_LATE_MICROCODE] ?? Infinity);
}
