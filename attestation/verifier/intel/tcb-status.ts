import type { ComponentStatus, PlatformStatus } from '../../evidence/intel-tcb.ts';
import type { Reason } from '../../evidence/reasons.ts';

/** What becomes of a platform when its parts are taken together. `NotSupported`: Intel lists no level that it reaches. */
export type TcbStatus = PlatformStatus | 'TDRelaunchAdvised' | 'TDRelaunchAdvisedConfigurationNeeded' | 'NotSupported';

/** Reasons of refusal, for a policy that does not accept the status. */
export const STATUS_REASONS: Readonly<Record<TcbStatus, Reason>> = {
  UpToDate: 'tcb/below-minimum', // by a policy that accepts no status at all
  SWHardeningNeeded: 'tcb/sw-hardening-needed',
  ConfigurationNeeded: 'tcb/configuration-needed',
  ConfigurationAndSWHardeningNeeded: 'tcb/configuration-and-sw-hardening-needed',
  OutOfDate: 'tcb/out-of-date',
  OutOfDateConfigurationNeeded: 'tcb/out-of-date-configuration-needed',
  TDRelaunchAdvised: 'tcb/relaunch-advised',
  TDRelaunchAdvisedConfigurationNeeded: 'tcb/relaunch-advised-configuration-needed',
  Revoked: 'tcb/revoked',
  NotSupported: 'tcb/no-level',
};

/**
 * The platform's status with that of one of its parts, the TDX module or the quoting enclave: a part can only make it worse
 * (Intel's quote verification library, `convergeTcbStatusWith…`).
 */
export function converge(status: TcbStatus, part: ComponentStatus | 'NotSupported'): TcbStatus {
  if (part === 'Revoked' || status === 'Revoked') return 'Revoked';
  if (part === 'NotSupported' || status === 'NotSupported') return 'NotSupported';
  if (part === 'UpToDate') return status;
  switch (status) {
    case 'UpToDate':
    case 'SWHardeningNeeded':
      return 'OutOfDate';
    case 'ConfigurationNeeded':
    case 'ConfigurationAndSWHardeningNeeded':
      return 'OutOfDateConfigurationNeeded';
    // Relaunching the TD would not mend an enclave that is out of date; relaunch is thus never advised then.
    case 'TDRelaunchAdvised':
    case 'OutOfDate':
      return 'OutOfDate';
    case 'TDRelaunchAdvisedConfigurationNeeded':
    case 'OutOfDateConfigurationNeeded':
      return 'OutOfDateConfigurationNeeded';
  }
}

export function isConfigurationNeeded(status: TcbStatus): boolean {
  return status.includes('Configuration');
}
