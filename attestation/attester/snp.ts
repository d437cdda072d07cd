import { NO_ENDORSEMENTS, toBase64url } from '../../proto/index.ts';
import { parseSnpCertificateTable } from '../evidence/snp-certificate-table.ts';
import { parseSnpReport } from '../evidence/snp.ts';
import type { Quoted } from './attester.ts';
import { requireOurReportData, type TsmReporter } from './configfs-tsm.ts';

/**
 * A report of an AMD SEV-SNP guest at the lowest privilege level that it may ask for, with the certificates that the host supplies.
 * A host need not supply any: then they have to come from elsewhere (AMD's KDS).
 *
 * @throws {Refusal} see {@link TsmReporter}, and `parse/…` for what is no SNP report or certificate table.
 */
export async function quoteSnp(tsm: TsmReporter, reportData: Uint8Array): Promise<Quoted> {
  const { outblob, auxblob } = await tsm.report({ provider: 'sev_guest', reportData });
  requireOurReportData(parseSnpReport(outblob).reportData, reportData);
  const { certificates, crls } = parseSnpCertificateTable(auxblob);
  return {
    quote: outblob,
    endorsements: {
      ...NO_ENDORSEMENTS,
      amd: { certificates: certificates.map(toBase64url), crls: crls.map(toBase64url) },
    },
  };
}
