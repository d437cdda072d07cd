import { concatBytes, equalBytes, toHex } from '../../../proto/index.ts';
import type { AzureVm, HclReport } from '../../evidence/azure-hcl.ts';
import { refuse } from '../../evidence/reasons.ts';
import { parseSnpReport } from '../../evidence/snp.ts';
import type { TdReportStruct } from '../../evidence/td-report-struct.ts';
import type { TdReport, TdxQuote } from '../../evidence/tdx.ts';
import type { SignedTpmQuote } from '../../evidence/tpm.ts';
import type { Findings } from '../findings.ts';
import type { PcrReference } from './pcr-references.ts';
import { verifyTpmQuote, type NotChecked, type TpmQuoteClaims } from './quote.ts';

/** The hardware's own evidence, which has to be verified by its family's verifier. */
export type AzureHardware =
  { readonly kind: 'snp'; readonly report: Uint8Array } | { readonly kind: 'tdx'; readonly quote: TdxQuote };

export interface AzureVtpmInput {
  readonly hcl: HclReport;
  readonly quote: SignedTpmQuote;
  /** For TDX: the quote made from the TDREPORT in the HCL report. */
  readonly tdQuote: TdxQuote | undefined;
  readonly nonce: Uint8Array | NotChecked;
  /** Whether the paravisor must report the quote's nonce as what the guest asked it to report. */
  readonly userDataIsNonce: boolean;
  readonly references: readonly PcrReference[] | NotChecked;
  /** As the paravisor reports it. */
  readonly secureBoot: 'required' | NotChecked;
  /** Verifies the hardware's evidence into the same findings. Left out, the whole proves nothing about the platform. */
  readonly verifyHardware: ((hardware: AzureHardware) => Promise<void>) | NotChecked;
}

export interface AzureVtpmClaims {
  readonly hardware: AzureHardware['kind'];
  /** What the paravisor says of the VM. */
  readonly vm: AzureVm;
  readonly runtimeDataDigest: string;
  readonly tpm: TpmQuoteClaims;
}

/**
 * Verifies Azure's chain: the hardware's report is over the paravisor's runtime data; that names the attestation key; the key signed
 * the TPM quote; the quote answers the nonce and covers the registers.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when the SNP report in the HCL report cannot be parsed.
 */
export async function verifyAzureVtpm(input: AzureVtpmInput, findings: Findings): Promise<AzureVtpmClaims> {
  const { hcl, tdQuote } = input;
  const unquoted = 'notChecked' in input.verifyHardware ? input.verifyHardware : undefined;
  const { digest, hardware } = await verifyRuntimeData(hcl, tdQuote, findings, unquoted);
  if ('notChecked' in input.verifyHardware) findings.skip('Azure hardware evidence', input.verifyHardware.notChecked);
  else if (hardware !== undefined) await input.verifyHardware(hardware);
  await checkSecureBoot(hcl.vm, input.secureBoot, findings);
  if (input.userDataIsNonce)
    await findings.check('Azure user data', () => requireUserData(hcl.vm.userData, input.quote.quote.extraData));
  const tpm = await verifyTpmQuote({ ...input, evidence: input.quote, attestationKey: hcl.attestationKey }, findings);
  return { hardware: hcl.hardware.kind, vm: hcl.vm, runtimeDataDigest: toHex(digest), tpm };
}

/**
 * The checks that tie the hardware's evidence to the HCL report; gives what remains to be verified by itself.
 *
 * @param unquoted why a TDREPORT may come without the TD quote that was made of it; it must not, unless this says so
 */
export async function verifyRuntimeData(
  hcl: HclReport,
  tdQuote: TdxQuote | undefined,
  findings: Findings,
  unquoted?: NotChecked,
): Promise<{ readonly digest: Uint8Array; readonly hardware: AzureHardware | undefined }> {
  const digest = new Uint8Array(await crypto.subtle.digest(hcl.hash, hcl.runtimeData as Uint8Array<ArrayBuffer>));
  return { digest, hardware: await checkHardware(hcl, tdQuote, digest, findings, unquoted) };
}

async function checkHardware(
  { hardware }: HclReport,
  tdQuote: TdxQuote | undefined,
  digest: Uint8Array,
  findings: Findings,
  unquoted: NotChecked | undefined,
): Promise<AzureHardware | undefined> {
  if (hardware.kind === 'snp') {
    const { vmpl, reportData } = parseSnpReport(hardware.report);
    await findings.check('Azure runtime data', () => requireBound(digest, reportData));
    // Only the paravisor runs at level 0; a report that the guest asked for could name any key.
    await findings.check('Azure VMPL', () => {
      if (vmpl !== 0) refuse('policy/vmpl', `the SNP report is of VMPL ${vmpl}, expected the paravisor's 0`);
    });
    return hardware;
  }
  await findings.check('Azure runtime data', () => requireBound(digest, hardware.report.reportData));
  if (tdQuote === undefined && unquoted !== undefined) {
    findings.skip('Azure TD report', unquoted.notChecked);
    return undefined;
  }
  const matches = await findings.check('Azure TD report', () => {
    if (tdQuote === undefined)
      refuse('collateral/missing', 'no TD quote came with the TDREPORT, which only its machine can verify');
    requireSameTd(hardware.report, tdQuote.report);
  });
  return matches && tdQuote !== undefined ? { kind: 'tdx', quote: tdQuote } : undefined;
}

/** All 64 bytes: the digest and zeros. */
function requireBound(digest: Uint8Array, reportData: Uint8Array): void {
  if (!equalBytes(reportData, concatBytes(digest, new Uint8Array(64 - digest.length))))
    refuse('evidence/runtime-data-hash', `the hardware report is over ${toHex(reportData)}, expected ${toHex(digest)}`);
}

/** User data are 64 bytes: the nonce, and zeros. */
function requireUserData(userData: string | undefined, nonce: Uint8Array): void {
  if (userData !== toHex(nonce).padEnd(128, '0'))
    refuse('binding/nonce-mismatch', `the paravisor reports user data ${userData ?? '(none)'}, not the quote's nonce`);
}

/** The quoting enclave copies these from the TDREPORT. */
function requireSameTd(report: TdReportStruct, quoted: TdReport): void {
  const pairs: readonly (readonly [string, Uint8Array | bigint, Uint8Array | bigint])[] = [
    ['REPORTDATA', report.reportData, quoted.reportData],
    ['TEE_TCB_SVN', report.teeTcbSvn, quoted.teeTcbSvn],
    ['MRSEAM', report.mrseam, quoted.mrseam],
    ['MRSIGNERSEAM', report.mrsignerseam, quoted.mrsignerseam],
    ['SEAMATTRIBUTES', report.seamAttributes, quoted.seamAttributes],
    ['TDATTRIBUTES', report.tdAttributes, quoted.tdAttributes],
    ['XFAM', report.xfam, quoted.xfam],
    ['MRTD', report.mrtd, quoted.mrtd],
    ['MRCONFIGID', report.mrconfigid, quoted.mrconfigid],
    ['MROWNER', report.mrowner, quoted.mrowner],
    ['MROWNERCONFIG', report.mrownerconfig, quoted.mrownerconfig],
    ...report.rtmrs.map((value, index) => [`RTMR${index}`, value, quoted.rtmrs[index] ?? value] as const),
    // Quotes of TD report 1.0 do not carry these two.
    ['TEE_TCB_SVN_2', report.teeTcbSvn2, quoted.teeTcbSvn2 ?? report.teeTcbSvn2],
    ['MRSERVICETD', report.mrservicetd, quoted.mrservicetd ?? report.mrservicetd],
  ];
  const different = pairs.filter(([, a, b]) =>
    typeof a === 'bigint' || typeof b === 'bigint' ? a !== b : !equalBytes(a, b),
  );
  if (different.length > 0)
    refuse('binding/report-data', `TDREPORT and TD quote differ in ${different.map(([name]) => name).join(', ')}`);
}

async function checkSecureBoot(vm: AzureVm, demand: 'required' | NotChecked, findings: Findings): Promise<void> {
  if (demand !== 'required') return findings.skip('secure boot', demand.notChecked);
  await findings.check('secure boot', () => {
    if (vm.secureBoot !== true) refuse('policy/measurement', 'the paravisor does not report secure boot');
  });
}
