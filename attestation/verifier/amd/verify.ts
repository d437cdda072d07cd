import type { AmdProduct } from '../../evidence/amd-product.ts';
import { readTcb, tcbLayout } from '../../evidence/amd-product.ts';
import type { AmdLeaf } from '../../evidence/amd-certificate.ts';
import { assembleAmdEndorsements, isOfChip } from '../../evidence/amd-endorsements.ts';
import { isMasked } from '../../evidence/amd-kds.ts';
import type { Crl } from '../../evidence/crl.ts';
import { refuse } from '../../evidence/reasons.ts';
import { parseSnpReport, type SnpReport } from '../../evidence/snp.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { AMD_ROOTS } from '../trust-anchors.ts';
import { verifyAmdChain } from './chain.ts';
import { collectSnpClaims, type SnpClaims } from './claims.ts';
import { isReportSigned } from './signature.ts';

export interface SnpEvidence {
  /** 1184 bytes. */
  readonly report: Uint8Array;
  /** VCEK or VLEK, ASK or ASVK, ARK: in any order, as untrusted as the report. */
  readonly certificates: readonly Certificate[];
  /** Lists of the ARK. One that is there is checked always, also where none is required. */
  readonly crls: readonly Crl[];
  /** What a missing list means: a refusal, or a check left out for this reason. */
  readonly revocation: 'required' | { readonly notChecked: string };
  readonly now: Date;
  /** SHA-256 of each product's ARK, DER, hexadecimal. The default is AMD's. */
  readonly roots?: Readonly<Record<AmdProduct, string>>;
}

/** A report after {@link verifySnpReport}: genuine when the findings have no failure, and only then to be believed. */
export interface SnpVerification {
  readonly report: SnpReport;
  /** `undefined` only after a failure. */
  readonly product: AmdProduct | undefined;
  readonly leaf: AmdLeaf | undefined;
  readonly claims: SnpClaims;
}

/**
 * Verifies that a genuine AMD processor made a SEV-SNP report, at the TCB that it reports (attestation-formats §3.3, steps 1 to 6).
 * What the report says is appraised by `appraiseSnpReport`; whom it is bound to (REPORT_DATA) is the caller's to check.
 *
 * @throws {Refusal} `parse/…` when the report cannot be parsed. All else becomes findings.
 */
export async function verifySnpReport(evidence: SnpEvidence, findings: Findings): Promise<SnpVerification> {
  const report = parseSnpReport(evidence.report);
  const endorsements = await attempt(findings, 'endorsement certificates', () =>
    assembleAmdEndorsements(evidence.certificates, report),
  );
  if (endorsements === undefined) {
    for (const check of CHECKS_OF_LEAF) findings.skip(check, 'the endorsement certificates could not be used');
    return result(report, undefined);
  }
  const { leaf } = endorsements;
  // The slowest step, and one that no other waits for: begun first.
  const signed = isReportSigned(report, leaf.certificate.publicKey);
  await findings.check('signing key kind', () => requireKind(report, leaf));
  await findings.check('product', () => requireProduct(report, leaf));
  await verifyAmdChain(endorsements, { ...evidence, roots: evidence.roots ?? AMD_ROOTS }, findings);
  await findings.check('report signature', async () => {
    if (!(await signed)) refuse('evidence/report-signature', `the ${leaf.kind} did not sign this report`);
  });
  if (leaf.hardwareId === undefined) findings.skip('chip id', 'a VLEK is not of one chip');
  else if (isMasked(report))
    findings.skip('chip id', 'the platform masks it; the VCEK that signed is of one chip anyway');
  else await findings.check('chip id', () => requireChip(report, leaf));
  await findings.check('TCB layout', () => requireLayout(report, leaf.product));
  await findings.check('security patch levels', () => requirePatchLevels(report, leaf));
  return result(report, leaf);
}

const CHECKS_OF_LEAF = [
  'signing key kind',
  'product',
  'intermediate certificate',
  'certificate chain',
  'certificate dates',
  'revocation',
  'report signature',
  'chip id',
  'TCB layout',
  'security patch levels',
];

function result(report: SnpReport, leaf: AmdLeaf | undefined): SnpVerification {
  const product = report.product ?? leaf?.product;
  return { report, product, leaf, claims: collectSnpClaims(report, product, leaf) };
}

async function attempt<T>(findings: Findings, check: string, run: () => T): Promise<T | undefined> {
  const made: T[] = [];
  await findings.check(check, () => {
    made.push(run());
  });
  return made[0];
}

function requireKind({ signer }: SnpReport, { kind }: AmdLeaf): void {
  if (signer === 'none') refuse('evidence/report-signature', 'the report says that no key signed it');
  if (signer !== kind)
    refuse('certificate/wrong-role', `the report names a ${signer}, the certificate is of a ${kind}`);
}

function requireProduct({ product }: SnpReport, leaf: AmdLeaf): void {
  if (product !== undefined && product !== leaf.product)
    refuse('certificate/wrong-product', `the report is of ${product}, the ${leaf.kind} of ${leaf.productName}`);
}

function requireChip(report: SnpReport, { hardwareId }: AmdLeaf): void {
  if (hardwareId === undefined || !isOfChip(hardwareId, report))
    refuse('evidence/chip-id-mismatch', 'the VCEK certificate is of another chip than the report');
}

/** Bytes that the product's TCB_VERSION reserves are zero in all four. */
function requireLayout(report: SnpReport, product: AmdProduct): void {
  readTcb(report.reportedTcb, product, 'REPORTED_TCB');
  readTcb(report.currentTcb, product, 'CURRENT_TCB');
  readTcb(report.committedTcb, product, 'COMMITTED_TCB');
  readTcb(report.launchTcb, product, 'LAUNCH_TCB');
}

/** The key is derived from REPORTED_TCB; the firmware may run a newer CURRENT_TCB. */
function requirePatchLevels({ reportedTcb }: SnpReport, { tcb, product, kind }: AmdLeaf): void {
  const names = Object.entries(tcbLayout(product));
  const differences = [...tcb.entries()].flatMap(([index, level]) => {
    const reported = reportedTcb[index];
    const name = names.find(([, at]) => at === index)?.[0] ?? `byte ${index}`;
    return level === reported ? [] : [`${name} ${level} in the ${kind}, ${reported} in REPORTED_TCB`];
  });
  if (differences.length > 0) refuse('evidence/spl-mismatch', differences.join('; '));
}
