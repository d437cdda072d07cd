import { equalBytes, toHex } from '../../../proto/index.ts';
import type { Crl } from '../../evidence/crl.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { QeReport, TdReport, TdxQuote } from '../../evidence/tdx.ts';
import type { Findings } from '../findings.ts';
import type { TdxClaims } from '../intel/claims.ts';
import { chooseCollateral } from '../intel/choose-collateral.ts';
import { checkOwnCrls } from '../intel/own-crls.ts';
import { checkTd } from '../intel/td-policy.ts';
import type { TcbClaims } from '../intel/tcb.ts';
import { readPckChain } from '../intel/quote.ts';
import { verifyTdx } from '../intel/verify.ts';
import { isNotChecked } from '../policy/common.ts';
import type { TdPolicy, TdxPolicy } from '../policy/tee.ts';
import { INTEL_QE_SIGNER, INTEL_SGX_ROOT, SIMULATED_QE_SIGNER, TD_QE_PRODUCT } from '../trust-anchors.ts';
import { checkReferences } from './references.ts';

export interface TdInput {
  readonly quote: TdxQuote;
  readonly policy: TdPolicy;
  /** Documents of Intel's collateral, each for one platform; see `evidence/intel-collateral.ts`. */
  readonly collateral: readonly string[];
  /** CRLs that came beside it, of anybody. */
  readonly crls?: readonly Crl[];
  readonly now: Date;
}

/** Verifies a quote of a trust domain, real or simulated, and compares it with the policy. Whom it is bound to is looked at elsewhere. */
export async function appraiseTd(
  { quote, policy, collateral, crls = [], now }: TdInput,
  findings: Findings,
): Promise<TdxClaims> {
  const claims = await verifyTdx(
    {
      quote,
      collateral: await collateralFor(quote, policy, collateral, now),
      now,
      ...(policy.kind === 'simulated' ? { root: policy.root } : tcbDemands(policy)),
    },
    findings,
  );
  if (policy.kind === 'tdx') await checkOwnCrls(quote, crls, findings);
  // Where Intel's identity of the quoting enclave is not looked at, only the known one passes.
  if (policy.kind === 'simulated' || isNotChecked(policy.collateral)) {
    const signer = policy.kind === 'simulated' ? SIMULATED_QE_SIGNER : INTEL_QE_SIGNER;
    await findings.check('quoting enclave: identity', () => requireQuotingEnclave(quote.qeReport, signer));
  } else await checkAdvisories(claims.tcb, policy.collateral, findings);
  await checkTd(quote.report, { septVeDisable: policy.septVeDisable, serviceTd: serviceTdDemand(policy) }, findings);
  await checkMeasurements(quote.report, policy, findings);
  return claims;
}

function tcbDemands({ collateral }: TdxPolicy): object {
  if (isNotChecked(collateral)) return {};
  const { statuses, evaluationNumberMin } = collateral;
  return {
    acceptStatuses: statuses,
    ...(isNotChecked(evaluationNumberMin) ? {} : { tcbEvaluationDataNumberMin: evaluationNumberMin }),
  };
}

async function collateralFor(
  quote: TdxQuote,
  policy: TdPolicy,
  documents: readonly string[],
  now: Date,
): Promise<string | undefined | { notChecked: string }> {
  if (policy.kind === 'simulated') return { notChecked: 'simulated platform: no vendor endorses it' };
  if (isNotChecked(policy.collateral)) return policy.collateral;
  if (documents.length < 2) return documents[0];
  const pck = readPckChain(quote);
  const chosen = await chooseCollateral(documents, { pck, root: INTEL_SGX_ROOT, now });
  // None will do: the one that names the platform tells best why.
  const names = new RegExp(`\\\\?"fmspc\\\\?":\\\\?"${toHex(pck.extension.fmspc)}`, 'i');
  return chosen ?? documents.find((document) => names.test(document)) ?? documents[0];
}

type Collateral = Exclude<TdxPolicy['collateral'], { notChecked: string }>;

async function checkAdvisories(
  tcb: TcbClaims | null,
  { advisories, evaluationNumberMin }: Collateral,
  findings: Findings,
): Promise<void> {
  if (isNotChecked(evaluationNumberMin))
    findings.skip('collateral: least evaluation data number', evaluationNumberMin.notChecked);
  if (isNotChecked(advisories)) return findings.skip('TCB: advisories', advisories.notChecked);
  if (tcb === null) return findings.skip('TCB: advisories', 'no TCB level can be told');
  await findings.check('TCB: advisories', () => {
    const refused = tcb.advisoryIds.filter((id) =>
      'allowed' in advisories ? !advisories.allowed.includes(id) : advisories.denied.includes(id),
    );
    if (refused.length > 0) refuse('tcb/advisory', `the platform is open to ${refused.join(', ')}`);
  });
}

/** Any enclave with provisioning rights can have its report signed by the PCK key; only the TD quoting enclave counts. */
function requireQuotingEnclave(qeReport: QeReport, signer: Uint8Array): void {
  if (!equalBytes(qeReport.mrsigner, signer) || qeReport.isvProdId !== TD_QE_PRODUCT)
    refuse('tcb/qe-identity', 'the report is not of the TD quoting enclave');
  // Intel's TD_QE identity: ATTRIBUTES 0x11 (initialised, provisioning) under mask 0xfb ff…; MISCSELECT 0. 0x02 is debug.
  const [flags = 0, ...others] = qeReport.attributes.subarray(0, 8);
  if ((flags & 0xfb) !== 0x11 || others.some((byte) => byte !== 0) || qeReport.miscSelect !== 0)
    refuse('tcb/qe-identity', 'the quoting enclave runs with other attributes, such as debugging');
}

function serviceTdDemand({ mrservicetd }: TdPolicy): 'none' | { notChecked: string } {
  if (mrservicetd === 'none' || isNotChecked(mrservicetd)) return mrservicetd;
  return { notChecked: 'compared with reference values instead' };
}

async function checkMeasurements(report: TdReport, policy: TdPolicy, findings: Findings): Promise<void> {
  const values = {
    mrtd: report.mrtd,
    mrseam: report.mrseam,
    rtmr0: report.rtmrs[0],
    rtmr1: report.rtmrs[1],
    rtmr2: report.rtmrs[2],
    rtmr3: report.rtmrs[3],
    mrconfigid: report.mrconfigid,
    mrowner: report.mrowner,
    mrownerconfig: report.mrownerconfig,
  };
  for (const [name, value] of Object.entries(values) as [keyof typeof values, Uint8Array | undefined][])
    await checkReferences(name.toUpperCase(), value && toHex(value), policy[name], findings);
  if (policy.mrservicetd === 'none' || isNotChecked(policy.mrservicetd)) return;
  const { mrservicetd } = report;
  await checkReferences('MRSERVICETD', mrservicetd && toHex(mrservicetd), policy.mrservicetd, findings);
}
