import { equalBytes } from '../../../proto/index.ts';
import type { Crl } from '../../evidence/crl.ts';
import type { TdxQuote } from '../../evidence/tdx.ts';
import type { Findings } from '../findings.ts';
import { requireNotRevoked, verifyCrlSignature } from '../pki/crl.ts';

/**
 * Looks the platform's certificates up in CRLs that came beside the collateral, which has its own. They can only refuse: what they
 * list is revoked, also when they are older than the collateral's, and what they do not list the collateral's still may.
 */
export async function checkOwnCrls({ pckChain }: TdxQuote, crls: readonly Crl[], findings: Findings): Promise<void> {
  for (const [index, issuer] of pckChain.entries()) {
    const below = pckChain[index - 1];
    if (below === undefined) continue;
    for (const crl of crls.filter((list) => equalBytes(list.issuer, issuer.subject))) {
      const what = `CRL of ${issuer.subjectCommonName}`;
      await findings.check(`${what} beside the collateral`, async () => {
        await verifyCrlSignature(crl, issuer, what);
        requireNotRevoked(crl, below, what);
      });
    }
  }
}
