import { equalBytes, toHex } from '../../../proto/index.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { TdxQuote } from '../../evidence/tdx.ts';
import type { Findings } from '../findings.ts';
import { requireNotRevoked } from '../pki/crl.ts';
import { checkCollateralDates, type VerifiedIntelCollateral } from './collateral.ts';
import type { PckCertificate } from './quote.ts';
import { evaluateTcb, type TcbClaims } from './tcb.ts';
import { requireModuleIdentity, requireQeIdentity } from './tcb-level.ts';
import { STATUS_REASONS, type TcbStatus } from './tcb-status.ts';

export interface TcbDemands {
  readonly now: Date;
  /** Statuses that count as good; `['UpToDate']` unless said otherwise. An empty list accepts nothing. */
  readonly acceptStatuses?: readonly TcbStatus[] | undefined;
  /** Smallest tcbEvaluationDataNumber of TCB info and QE identity: forces data that knows of a TCB recovery. */
  readonly tcbEvaluationDataNumberMin?: number | undefined;
}

const CHECKS = {
  pckRevocation: 'PCK certificate: revocation',
  evaluationNumber: 'collateral: evaluation data number',
  qeIdentity: 'quoting enclave: identity',
  qeSvn: 'quoting enclave: security version',
  platform: 'TCB info: platform',
  module: 'TDX module: identity',
  tcb: 'TCB: level',
  status: 'TCB: status',
} as const;

/** Compares a quote with verified collateral. Gives how the platform stands, `null` when that cannot be told. */
export async function verifyEndorsed(
  quote: TdxQuote,
  { leaf, ca, extension }: PckCertificate,
  collateral: VerifiedIntelCollateral,
  { now, acceptStatuses = ['UpToDate'], tcbEvaluationDataNumberMin = 0 }: TcbDemands,
  findings: Findings,
): Promise<TcbClaims | null> {
  const { tcbInfo, qeIdentity, pckCa, source } = collateral;
  await checkCollateralDates(collateral, now, findings);
  await findings.check(CHECKS.pckRevocation, () => {
    // A CA with the same name and another key would be another CA.
    if (!equalBytes(ca.publicKey.spki, pckCa.publicKey.spki))
      refuse('revocation/wrong-issuer', 'the PCK CRL is of another CA than the PCK certificate');
    requireNotRevoked(source.pckCrl, leaf, 'PCK CRL');
    requireNotRevoked(source.rootCaCrl, ca, 'root CA CRL');
  });
  await findings.check(CHECKS.evaluationNumber, () => {
    const number = Math.min(tcbInfo.tcbEvaluationDataNumber, qeIdentity.tcbEvaluationDataNumber);
    if (number < tcbEvaluationDataNumberMin)
      refuse(
        'collateral/evaluation-number',
        `evaluation data number is ${number}, at least ${tcbEvaluationDataNumberMin} is required`,
      );
  });
  await findings.check(CHECKS.qeIdentity, () => requireQeIdentity(qeIdentity, quote.qeReport));
  const samePlatform = await findings.check(CHECKS.platform, () => {
    if (!equalBytes(extension.fmspc, tcbInfo.fmspc))
      refuse(
        'collateral/fmspc-mismatch',
        `TCB info is of FMSPC ${toHex(tcbInfo.fmspc)}, the platform has ${toHex(extension.fmspc)}`,
      );
    if (!equalBytes(extension.pceId, tcbInfo.pceId))
      refuse(
        'collateral/pceid-mismatch',
        `TCB info is of PCE-ID ${toHex(tcbInfo.pceId)}, the platform has ${toHex(extension.pceId)}`,
      );
  });
  if (!samePlatform) {
    for (const name of [CHECKS.module, CHECKS.qeSvn, CHECKS.tcb, CHECKS.status])
      findings.skip(name, 'the TCB info is of another platform');
    return null;
  }
  await findings.check(CHECKS.module, () => requireModuleIdentity(tcbInfo, quote.report));
  return checkTcb(quote, extension, collateral, acceptStatuses, findings);
}

async function checkTcb(
  quote: TdxQuote,
  extension: PckCertificate['extension'],
  { tcbInfo, qeIdentity }: VerifiedIntelCollateral,
  acceptStatuses: readonly TcbStatus[],
  findings: Findings,
): Promise<TcbClaims | null> {
  let tcb: TcbClaims | undefined;
  const matched = await findings.check(CHECKS.tcb, () => {
    tcb = evaluateTcb(quote, extension, tcbInfo, qeIdentity);
    if (tcb.platformStatus === 'NotSupported')
      refuse('tcb/no-level', 'the platform reaches none of the levels in the TCB info');
    if (tcb.moduleStatus === 'NotSupported')
      refuse('tcb/no-level', 'the TDX module reaches none of its levels in the TCB info');
  });
  if (tcb === undefined) {
    for (const name of [CHECKS.qeSvn, CHECKS.status]) findings.skip(name, 'no TCB level can be told');
    return null;
  }
  const { qeStatus, status, advisoryIds } = tcb;
  const supported = await findings.check(CHECKS.qeSvn, () => {
    if (qeStatus === 'NotSupported')
      refuse('tcb/qe-svn', `the quoting enclave has ISVSVN ${quote.qeReport.isvSvn}, which is below every level`);
  });
  if (!matched || !supported) findings.skip(CHECKS.status, 'there is no level to take a status from');
  else
    await findings.check(CHECKS.status, () => {
      if (!acceptStatuses.includes(status))
        refuse(
          STATUS_REASONS[status],
          `TCB status is ${status}${advisoryIds.length > 0 ? ` (${advisoryIds.join(', ')})` : ''}`,
        );
    });
  return tcb;
}
