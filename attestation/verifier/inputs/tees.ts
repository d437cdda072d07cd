import { refuse } from '../../evidence/reasons.ts';
import { parseSnpReport } from '../../evidence/snp.ts';
import { parseTdxQuote, type TdxQuote } from '../../evidence/tdx.ts';
import type { TpmEvidence } from '../../evidence/tpm-evidence-json.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { SnpClaims } from '../amd/claims.ts';
import { appraiseSnp } from '../appraisal/snp.ts';
import { appraiseTd } from '../appraisal/td.ts';
import type { TdxClaims } from '../intel/claims.ts';
import type { Part } from './appraise-inputs.ts';
import type { Gathered } from './gather.ts';

/** A CPU's report after its appraisal. */
export interface AppraisedTee {
  readonly tdx?: TdxClaims;
  readonly snp?: SnpClaims;
  /** All 64 bytes. */
  readonly reportData: Uint8Array;
  readonly quote?: TdxQuote;
}

export async function appraiseTees(part: Part): Promise<AppraisedTee[]> {
  const { gathered, policy, findings } = part;
  const { tdxQuotes, snpReports } = gathered;
  const { tee } = policy;
  const count = tdxQuotes.length + snpReports.length;
  if (tee.kind === 'none') {
    for (const bytes of tdxQuotes) parseTdxQuote(bytes);
    for (const bytes of snpReports) parseSnpReport(bytes);
    findings.skip('TEE', tee.notRequired);
    return [];
  }
  const wanted = tee.kind === 'snp' ? snpReports : tdxQuotes;
  // Of an Azure machine the report comes inside the TPM evidence, whose appraisal then demands it.
  const { tpm } = policy;
  const insideTpm =
    count === 0 &&
    !('notRequired' in tpm) &&
    tpm.hardware === 'required' &&
    gathered.tpm.length > 0 &&
    gathered.tpm.every((evidence) => bringsHardware(evidence, gathered));
  if (!insideTpm)
    await findings.check('TEE kind', () => {
      if (wanted.length === 0 || wanted.length !== count)
        refuse(
          'policy/tee-kind',
          `the policy accepts ${tee.kind} only; there are ${tdxQuotes.length} TDX quotes, ${snpReports.length} SNP reports`,
        );
    });
  const appraised: AppraisedTee[] = [];
  for (const bytes of wanted) appraised.push(await appraiseTee(bytes, part));
  return appraised;
}

/** Whether a hardware report is below TPM evidence: in it, or in a paravisor's report beside it. */
export function bringsHardware({ kind }: TpmEvidence, { hcl }: Gathered): boolean {
  return kind === 'azure-snp' || kind === 'azure-tdx' || (kind === 'tpm-quote' && hcl.length > 0);
}

/** Appraises one report under the policy, which must be of its kind. */
export async function appraiseTee(
  bytes: Uint8Array,
  part: Part,
  own: readonly Certificate[] = [],
): Promise<AppraisedTee> {
  const { gathered, policy, now, findings } = part;
  const { tee } = policy;
  if (tee.kind === 'snp') {
    const { reportData } = parseSnpReport(bytes);
    const certificates = [...own, ...certificatesOf(gathered, 'amd')];
    const crls = crlsOf(gathered, 'amd');
    const snp = await appraiseSnp({ report: bytes, certificates, crls, policy: tee, now }, findings);
    return { snp, reportData };
  }
  const quote = parseTdxQuote(bytes);
  if (tee.kind === 'none') return { reportData: quote.report.reportData, quote };
  const tdx = await appraiseTd(
    { quote, policy: tee, collateral: gathered.collateral, crls: gathered.crls, now },
    findings,
  );
  return { tdx, reportData: quote.report.reportData, quote };
}

/** Certificates of a vendor by their names; where none is named so, all whose owner is not known. */
export function certificatesOf({ certificates }: Gathered, vendor: 'amd' | 'other'): Certificate[] {
  const of = (name: string): Certificate[] =>
    certificates.filter((file) => file.vendor === name).flatMap((file) => file.certificates);
  const named = of(vendor);
  return named.length > 0 ? named : of('other');
}

/** CRLs of a vendor by their issuers' names. One of nobody's name goes to whose evidence is there, and is refused there. */
export function crlsOf({ crls, devices, rims }: Gathered, vendor: 'amd' | 'nvidia'): Gathered['crls'] {
  const unknown = devices.length + rims.length > 0 ? 'nvidia' : 'amd';
  return crls.filter(({ issuer }) => {
    const name = nameOf(issuer);
    if (name.includes('Intel SGX')) return false;
    return vendor === (name.includes('ARK-') ? 'amd' : unknown);
  });
}

/** A distinguished name's bytes as text, to look for a common name in. */
function nameOf(name: Uint8Array): string {
  return Array.from(name, (byte) => String.fromCharCode(byte)).join('');
}
