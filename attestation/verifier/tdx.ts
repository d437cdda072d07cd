import { concatBytes, equalBytes, reportData, sha256 } from '../../proto/index.ts';
import type { TdReport, TdxQuote } from '../evidence/tdx.ts';
import { verifyChain } from './pki/chain.ts';
import { verifyEcdsa } from './pki/signatures.ts';
import type { AppraisalPolicy } from './policy.ts';
import { isNotChecked, reasonOf, refuse, requireListed, type Case, type Rule } from './rule.ts';
import { INTEL_QE_SIGNER, INTEL_SGX_ROOT, SIMULATED_QE_SIGNER, TD_QE_PRODUCT } from './trust-anchors.ts';

/** TDATTRIBUTES bits 0 to 7: debugging, and what is reserved beside it. */
const ATTRIBUTES_DEBUG = 0xffn;
const ATTRIBUTES_SEPT_VE_DISABLE = 1n << 28n;
/** Bits that a TD may have: SEPT_VE_DISABLE, PKS, KL, PERFMON (google/go-tdx-guest `validate/validate.go`). */
const ATTRIBUTES_KNOWN = ATTRIBUTES_SEPT_VE_DISABLE | (1n << 30n) | (1n << 31n) | (1n << 63n);
/** XFAM: x87 and SSE must be on, and nothing outside the known ones. */
const XFAM_REQUIRED = 0x3n;
const XFAM_KNOWN = 0x6dbe7n;

/** Chain and signatures: that a genuine platform made this quote. */
export const quoteRules: readonly Rule[] = [
  { name: 'PCK certificate chain', check: verifyPckChain },
  { name: 'quoting enclave report signature', check: (subject) => verifyQeReport(subject) },
  { name: 'quoting enclave identity', check: requireQuotingEnclave },
  { name: 'attestation key binding', check: (subject) => verifyAttestationKey(subject.quote) },
  { name: 'quote signature', check: (subject) => verifyQuoteSignature(subject.quote) },
];

/** What the quote says, against the policy. */
export const reportRules: readonly Rule[] = [
  { name: 'report data', check: requireReportData },
  { name: 'debugging is off', check: ({ quote }) => requireNoDebug(quote.report) },
  { name: 'TD and module attributes', check: ({ quote }) => requireKnownAttributes(quote.report) },
  {
    name: 'SEPT_VE_DISABLE',
    skip: (policy) => reasonOf(policy.septVeDisable),
    check: ({ quote }) => {
      if ((quote.report.tdAttributes & ATTRIBUTES_SEPT_VE_DISABLE) === 0n)
        refuse('CFN_TD_ATTRIBUTES', 'SEPT_VE_DISABLE is off');
    },
  },
  measurementRule('mrtd', (report) => report.mrtd),
  measurementRule('mrseam', (report) => report.mrseam),
  measurementRule('rtmr0', (report) => report.rtmrs[0]),
  measurementRule('rtmr1', (report) => report.rtmrs[1]),
  measurementRule('rtmr2', (report) => report.rtmrs[2]),
  measurementRule('rtmr3', (report) => report.rtmrs[3]),
  measurementRule('mrconfigid', (report) => report.mrconfigid),
  measurementRule('mrowner', (report) => report.mrowner),
  measurementRule('mrownerconfig', (report) => report.mrownerconfig),
  measurementRule('mrservicetd', (report) => report.mrservicetd),
];

/** Endorsements that this version cannot verify; the policy schema makes each say why that is accepted. */
export function skippedEndorsements({ tee }: AppraisalPolicy): { name: string; reason: string }[] {
  return [
    { name: 'QE identity', reason: tee.qeIdentity.notChecked },
    { name: 'TCB level', reason: tee.tcb.notChecked },
    { name: 'PCK chain revocation', reason: tee.revocation.notChecked },
  ];
}

async function verifyPckChain({ quote, pckLeaf, policy, now }: Case): Promise<void> {
  const root = policy.tee.kind === 'tdx' ? INTEL_SGX_ROOT : policy.tee.root;
  await verifyChain(quote.pckChain, { root, now, what: 'PCK chain' });
  if (quote.pckChain.length !== 3)
    refuse('CFN_CHAIN_INVALID', `PCK chain has ${quote.pckChain.length} certificates, expected 3`);
  // The TCB signing chain ends at the same root; its key must not pass for a platform's.
  const { subjectCommonName, publicKey } = pckLeaf;
  const isP256 = publicKey.type === 'ec' && publicKey.curve === 'P-256';
  if (!subjectCommonName.includes('SGX PCK Certificate') || !isP256) {
    refuse('CFN_CHAIN_INVALID', 'PCK chain does not begin with a PCK certificate');
  }
}

export async function verifyQeReport({ quote, pckLeaf }: Pick<Case, 'quote' | 'pckLeaf'>): Promise<void> {
  const { publicKey } = pckLeaf;
  if (
    publicKey.type !== 'ec' ||
    !(await verifyEcdsa(publicKey, 'SHA-256', quote.qeReportSignature, quote.qeReport.bytes))
  )
    refuse('CFN_QE_BINDING', "the PCK key did not sign the quoting enclave's report");
}

/** Any enclave with provisioning rights can have its report signed by the PCK key; only the TD quoting enclave counts. */
function requireQuotingEnclave({ quote, policy }: Case): void {
  const { qeReport } = quote;
  const signer = policy.tee.kind === 'tdx' ? INTEL_QE_SIGNER : SIMULATED_QE_SIGNER;
  if (!equalBytes(qeReport.mrsigner, signer) || qeReport.isvProdId !== TD_QE_PRODUCT) {
    refuse('CFN_QE_BINDING', 'the report is not of the TD quoting enclave');
  }
  // Intel's TD_QE identity: ATTRIBUTES 0x11 (initialised, provisioning) under mask 0xfb ff…; MISCSELECT 0. 0x02 is debug.
  const [flags = 0, ...others] = qeReport.attributes.subarray(0, 8);
  if ((flags & 0xfb) !== 0x11 || others.some((byte) => byte !== 0) || qeReport.miscSelect !== 0) {
    refuse('CFN_QE_BINDING', 'the quoting enclave runs with other attributes, such as debugging');
  }
}

/** The QE vouches for the attestation key by its own report data: SHA-256(key ‖ authentication data) ‖ zeros. */
export async function verifyAttestationKey(quote: TdxQuote): Promise<void> {
  const digest = await sha256(concatBytes(quote.attestationKey, quote.qeAuthenticationData));
  if (!equalBytes(quote.qeReport.reportData, concatBytes(digest, new Uint8Array(32)))) {
    refuse('CFN_QE_BINDING', "the quoting enclave's report does not name the attestation key");
  }
}

export async function verifyQuoteSignature(quote: TdxQuote): Promise<void> {
  const key = { xy: quote.attestationKey, curve: 'P-256' } as const;
  if (!(await verifyEcdsa(key, 'SHA-256', quote.signature, quote.signedBytes)))
    refuse('CFN_QUOTE_SIGNATURE', 'the attestation key did not sign this quote');
}

async function requireReportData({ quote, nonce, workerKeysBytes, evidence }: Case): Promise<void> {
  const expected = await reportData(nonce, workerKeysBytes, evidence.gpus);
  if (!equalBytes(quote.report.reportData, expected)) {
    refuse('CFN_REPORT_DATA_MISMATCH', 'report data does not bind the nonce, the worker keys and the GPU evidence');
  }
}

function requireNoDebug({ tdAttributes }: TdReport): void {
  if ((tdAttributes & ATTRIBUTES_DEBUG) !== 0n)
    refuse('CFN_DEBUG_ENABLED', `TDATTRIBUTES is 0x${tdAttributes.toString(16)}`);
}

function requireKnownAttributes({ tdAttributes, xfam, seamAttributes, mrsignerseam }: TdReport): void {
  const unknown = tdAttributes & ~ATTRIBUTES_DEBUG & ~ATTRIBUTES_KNOWN;
  if (unknown !== 0n) refuse('CFN_TD_ATTRIBUTES', `TDATTRIBUTES has unknown bits 0x${unknown.toString(16)}`);
  if ((xfam & XFAM_REQUIRED) !== XFAM_REQUIRED || (xfam & ~XFAM_KNOWN) !== 0n) {
    refuse('CFN_TD_ATTRIBUTES', `XFAM 0x${xfam.toString(16)} is not possible in production`);
  }
  // Zero on both counts is Intel's production module.
  if (seamAttributes !== 0n || mrsignerseam.some((byte) => byte !== 0)) {
    refuse('CFN_TD_ATTRIBUTES', "the TDX module is not Intel's production module");
  }
}

type MeasurementField =
  'mrtd' | 'mrseam' | `rtmr${0 | 1 | 2 | 3}` | 'mrconfigid' | 'mrowner' | 'mrownerconfig' | 'mrservicetd';

function measurementRule(field: MeasurementField, value: (report: TdReport) => Uint8Array | undefined): Rule {
  const name = field.toUpperCase();
  return {
    name,
    skip: (policy) => reasonOf(policy[field]),
    check: ({ policy, quote }) => {
      const list = policy[field];
      if (!isNotChecked(list)) requireListed(value(quote.report), list, name);
    },
  };
}
