import { fromBase64url, utf8, type Evidence } from '../../proto/index.ts';
import { writeIntelCollateral } from '../evidence/intel-collateral.ts';
import { parseSnpReport } from '../evidence/snp.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import { devicesOf } from '../verifier/inputs/devices.ts';
import { gather, type Gathered } from '../verifier/inputs/gather.ts';
import { endorseEvidence } from './endorse-evidence.ts';
import type { VendorServices } from './vendor-services.ts';

/**
 * Evidence as it came, with what the services that are there have for it. An evidence document gets it inside, since it stands alone.
 *
 * @throws {CfnError} those of `gather`, and `CFN_VENDOR_UNREACHABLE` or the refusal of what was answered
 */
export async function endorseInputs(
  inputs: readonly Uint8Array[],
  services: VendorServices,
): Promise<readonly Uint8Array[]> {
  const gathered = gather(inputs);
  const [document] = gathered.documents;
  if (document !== undefined) return inputs.length === 1 ? [await endorseDocument(document, services)] : inputs;
  const { intel, amd, nvidia } = services;
  const fetched: Uint8Array[] = [];
  if (intel !== undefined)
    for (const quote of tdxQuotesOf(gathered))
      fetched.push(utf8(writeIntelCollateral(await intel(parseTdxQuote(quote)))));
  if (amd !== undefined)
    for (const report of snpReportsOf(gathered)) {
      const { certificates, crls } = await amd(parseSnpReport(report));
      fetched.push(...certificates, ...crls);
    }
  if (nvidia !== undefined && gathered.devices.length > 0) {
    const { rims, ocsp } = await nvidia(await devicesOf(gathered), gathered.rims);
    fetched.push(...rims, ...ocsp);
  }
  return [...inputs, ...fetched];
}

async function endorseDocument(evidence: Evidence, services: VendorServices): Promise<Uint8Array> {
  const quote = fromBase64url(evidence.quote, 'CFN_EVIDENCE_MALFORMED');
  const endorsements = await endorseEvidence({ ...evidence, quote }, services, evidence.endorsements);
  return utf8(JSON.stringify({ ...evidence, endorsements }));
}

/** Those at hand, and those inside a vTPM's evidence. */
function tdxQuotesOf({ tdxQuotes, tpm }: Gathered): Uint8Array[] {
  return [...tdxQuotes, ...tpm.flatMap((evidence) => (evidence.kind === 'azure-tdx' ? evidence.tdQuote : []))];
}

function snpReportsOf({ snpReports, tpm, hcl }: Gathered): Uint8Array[] {
  const paravisors = [
    ...tpm.flatMap((evidence) => (evidence.kind === 'azure-snp' ? evidence.hcl : [])),
    ...(tpm.some(({ kind }) => kind === 'tpm-quote') ? hcl : []),
  ];
  const below = paravisors.flatMap(({ hardware }) => (hardware.kind === 'snp' ? hardware.report : []));
  return [...snpReports, ...below];
}
