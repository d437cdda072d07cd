import { CfnError, equalBytes } from '../../../proto/index.ts';
import { Findings } from '../findings.ts';
import { checkCollateralDates, type VerifiedIntelCollateral } from './collateral.ts';
import type { PckCertificate } from './quote.ts';
import { verifiedCollateral } from './verify.ts';

export interface CollateralWanted {
  readonly pck: PckCertificate;
  /** SHA-256 of the root certificate, hexadecimal. */
  readonly root: string;
  readonly now: Date;
}

/**
 * Of several collateral documents, the newest that verifies, is of the platform and counts at `now`; else one that verifies and is of
 * the platform. `undefined` when there is none such.
 */
export async function chooseCollateral(
  documents: readonly string[],
  { pck: { ca, extension }, root, now }: CollateralWanted,
): Promise<string | undefined> {
  let best: { readonly document: string; readonly isCurrent: boolean; readonly issueDate: number } | undefined;
  for (const document of documents) {
    const verified = await attempt(document, root);
    if (verified === undefined || !equalBytes(verified.tcbInfo.fmspc, extension.fmspc)) continue;
    if (!equalBytes(verified.pckCa.publicKey.spki, ca.publicKey.spki)) continue;
    const dates = new Findings();
    await checkCollateralDates(verified, now, dates);
    const isCurrent = dates.failures.length === 0;
    const { issueDate } = verified.tcbInfo;
    const isBetter = best === undefined || (isCurrent === best.isCurrent ? issueDate > best.issueDate : isCurrent);
    if (isBetter) best = { document, isCurrent, issueDate };
  }
  return best?.document;
}

/** What cannot be parsed is no choice. */
async function attempt(document: string, root: string): Promise<VerifiedIntelCollateral | undefined> {
  try {
    return await verifiedCollateral(document, root, new Findings());
  } catch (error) {
    if (error instanceof CfnError) return undefined;
    throw error;
  }
}
