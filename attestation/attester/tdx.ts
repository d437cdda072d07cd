import { NO_ENDORSEMENTS } from '../../proto/index.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import type { Quoted } from './attester.ts';
import { requireOurReportData, type TsmReporter } from './configfs-tsm.ts';

/**
 * A quote of an Intel TDX guest, cut to the bytes that are signed (Linux pads it).
 *
 * @throws {Refusal} see {@link TsmReporter}, and `parse/…` for what is no TDX quote.
 */
export async function quoteTdx(tsm: TsmReporter, reportData: Uint8Array): Promise<Quoted> {
  const { outblob } = await tsm.report({ provider: 'tdx_guest', reportData });
  const quote = parseTdxQuote(outblob);
  requireOurReportData(quote.report.reportData, reportData);
  return { quote: outblob.subarray(0, quote.quoteBytes), endorsements: NO_ENDORSEMENTS };
}
