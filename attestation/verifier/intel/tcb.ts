import type { ComponentLevel, ComponentStatus, QeIdentity, TcbInfo } from '../../evidence/intel-tcb.ts';
import type { SgxExtension } from '../../evidence/pck.ts';
import type { TdxQuote } from '../../evidence/tdx.ts';
import {
  findModuleIdentity,
  isNewest,
  matchComponentLevel,
  matchPlatformLevel,
  SVN_MODULE_MAJOR,
  SVN_MODULE_MINOR,
} from './tcb-level.ts';
import { converge, isConfigurationNeeded, type TcbStatus } from './tcb-status.ts';

/** How the platform stands against Intel's levels; JSON-able. Dates are RFC 3339, and `null` where there is no level. */
export interface TcbClaims {
  /** All parts together, with the relaunch of the TD considered. */
  readonly status: TcbStatus;
  /** Of the matched level of TCB info: CPU, microcode and TDX SVNs. */
  readonly platformStatus: TcbStatus;
  /** Of the first level whose SGX part matches; differs from `platformStatus` when only TDX SVNs are behind. */
  readonly sgxStatus: TcbStatus;
  readonly qeStatus: ComponentStatus | 'NotSupported';
  /** `null`: module before major version 1, which has no levels of its own. */
  readonly moduleStatus: ComponentStatus | 'NotSupported' | null;
  /** Of the matched levels of platform, module and quoting enclave, sorted. */
  readonly advisoryIds: readonly string[];
  readonly tcbDate: string | null;
  readonly qeTcbDate: string | null;
  readonly moduleTcbDate: string | null;
  readonly tcbEvaluationDataNumber: number;
  readonly qeTcbEvaluationDataNumber: number;
}

/**
 * Matches a quote with Intel's levels (Intel's quote verification library, `Checks/TcbLevelCheck.cpp` and
 * `TDRelaunchCheck.cpp`). Signatures and identities are verified elsewhere.
 *
 * @throws {Refusal} `tcb/module-unknown` when the module that is loaded now is not in the TCB info
 */
export function evaluateTcb(
  quote: Pick<TdxQuote, 'report' | 'qeReport'>,
  pck: SgxExtension,
  tcbInfo: TcbInfo,
  qeIdentity: QeIdentity,
): TcbClaims {
  const { teeTcbSvn, teeTcbSvn2 } = quote.report;
  const { sgx, tdx } = matchPlatformLevel(tcbInfo, pck, teeTcbSvn);
  const qe = matchComponentLevel(qeIdentity.tcbLevels, quote.qeReport.isvSvn);
  const major = teeTcbSvn[SVN_MODULE_MAJOR] ?? 0;
  const module = matchComponentLevel(
    findModuleIdentity(tcbInfo, major)?.tcbLevels ?? [],
    teeTcbSvn[SVN_MODULE_MINOR] ?? 0,
  );
  const sgxStatus = sgx?.tcbStatus ?? 'NotSupported';
  const platformStatus = tdx?.tcbStatus ?? 'NotSupported';
  const qeStatus = qe?.tcbStatus ?? 'NotSupported';
  const moduleStatus = major === 0 ? null : (module?.tcbStatus ?? 'NotSupported');

  // A revoked CPU does not get better because a lower level matches as a whole.
  const platform = sgxStatus === 'Revoked' ? 'Revoked' : platformStatus;
  const withModule = converge(platform, moduleStatus ?? 'UpToDate');
  const relaunch =
    teeTcbSvn2 !== undefined &&
    moduleStatus === 'OutOfDate' &&
    qeStatus === 'UpToDate' &&
    isOutOfDate(withModule) &&
    SGX_CURRENT.has(sgxStatus) &&
    isNewest(tcbInfo, teeTcbSvn2);
  const withRelaunch = relaunch ? adviseRelaunch(sgxStatus, withModule) : withModule;
  return {
    status: converge(withRelaunch, qeStatus),
    platformStatus,
    sgxStatus,
    qeStatus,
    moduleStatus,
    advisoryIds: advisories([tdx, major === 0 ? undefined : module, qe]),
    tcbDate: date(tdx),
    qeTcbDate: date(qe),
    moduleTcbDate: major === 0 ? null : date(module),
    tcbEvaluationDataNumber: tcbInfo.tcbEvaluationDataNumber,
    qeTcbEvaluationDataNumber: qeIdentity.tcbEvaluationDataNumber,
  };
}

const SGX_CURRENT: ReadonlySet<TcbStatus> = new Set([
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
]);

function isOutOfDate(status: TcbStatus): boolean {
  return status === 'OutOfDate' || status === 'OutOfDateConfigurationNeeded';
}

/** The platform has been patched under the running TD, which still counts as started by the old module. */
function adviseRelaunch(sgxStatus: TcbStatus, status: TcbStatus): TcbStatus {
  return isConfigurationNeeded(sgxStatus) || isConfigurationNeeded(status)
    ? 'TDRelaunchAdvisedConfigurationNeeded'
    : 'TDRelaunchAdvised';
}

type Level = Pick<ComponentLevel, 'tcbDate' | 'advisoryIDs'> | undefined;

function advisories(levels: readonly Level[]): string[] {
  return [...new Set(levels.flatMap((level) => level?.advisoryIDs ?? []))].toSorted();
}

function date(level: Level): string | null {
  return level === undefined ? null : new Date(level.tcbDate).toISOString();
}
