import { equalBytes } from '../../../proto/index.ts';
import type { HclReport } from '../../evidence/azure-hcl.ts';
import { refuse } from '../../evidence/reasons.ts';
import { verifyRuntimeData } from '../tpm/azure.ts';
import type { Part } from './appraise-inputs.ts';
import type { AppraisedTee } from './tees.ts';

/**
 * Reports of Azure's paravisor to which no TPM quote belongs. Their SNP reports are among those that `appraiseTees` appraises; a
 * TDREPORT needs the TD quote that was made of it.
 */
export async function appraiseParavisors({ gathered, findings }: Part, tees: readonly AppraisedTee[]): Promise<void> {
  const { hcl, tpm } = gathered;
  const used = tpm.some(({ kind }) => kind === 'tpm-quote') ? 1 : 0;
  for (const report of hcl.slice(used)) {
    if (tpm.length === 0) await verifyRuntimeData(report, quoteOf(report, tees), findings);
    else
      await findings.check("paravisor's report", () =>
        refuse('parse/unknown-input', 'the TPM evidence does not belong to this report'),
      );
  }
}

function quoteOf({ hardware }: HclReport, tees: readonly AppraisedTee[]): AppraisedTee['quote'] {
  if (hardware.kind === 'snp') return undefined;
  const quotes = tees.flatMap(({ quote }) => quote ?? []);
  const { reportData } = hardware.report;
  return quotes.find(({ report }) => equalBytes(report.reportData, reportData)) ?? quotes[0];
}
