import { sha256Hex, utf8 } from '../../../proto/index.ts';
import { parseIntelCollateral } from '../../evidence/intel-collateral.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { TdxQuote } from '../../evidence/tdx.ts';
import { BoundedMap } from '../bounded-map.ts';
import type { Findings } from '../findings.ts';
import { INTEL_SGX_ROOT } from '../trust-anchors.ts';
import { tdxClaims, type TdxClaims } from './claims.ts';
import { COLLATERAL_CHECKS, verifyIntelCollateral, type VerifiedIntelCollateral } from './collateral.ts';
import { verifyEndorsed, type TcbDemands } from './endorsed.ts';
import { readPckChain, verifyQuote } from './quote.ts';

export interface TdxInput extends TcbDemands {
  readonly quote: TdxQuote;
  /** A collateral document, see `evidence/intel-collateral.ts`; `undefined` when there is none, which is refused. */
  readonly collateral: string | undefined | { readonly notChecked: string };
  /** SHA-256 of the root certificate, hexadecimal; Intel's unless said otherwise. */
  readonly root?: string | undefined;
}

/**
 * Verifies a TDX quote and Intel's endorsements of its platform (attestation-formats §2.3). What the TD is, its measurements, its
 * attributes and its report data, is for `checkTd` and the policy.
 *
 * @throws {Refusal} for a quote or collateral that cannot be parsed; all else is in the findings
 */
export async function verifyTdx(input: TdxInput, findings: Findings): Promise<TdxClaims> {
  const { quote, collateral: document, root = INTEL_SGX_ROOT } = input;
  const pck = readPckChain(quote);
  await verifyQuote(quote, pck, { root, now: input.now }, findings);
  if (typeof document === 'object') {
    findings.skip('collateral', document.notChecked);
    return tdxClaims(quote, pck, null);
  }
  if (document === undefined) {
    await findings.check('collateral', () => refuse('collateral/missing', 'there is no collateral for this quote'));
    return tdxClaims(quote, pck, null);
  }
  const collateral = await verifiedCollateral(document, root, findings);
  if (collateral === undefined) {
    findings.skip('TCB', 'the collateral does not verify');
    return tdxClaims(quote, pck, null);
  }
  return tdxClaims(quote, pck, await verifyEndorsed(quote, pck, collateral, input, findings));
}

/** Collateral that has been verified, by root and digest of the document: many workers bring the same. */
const kept = new BoundedMap<string, VerifiedIntelCollateral>(32);

/**
 * Parses and verifies a collateral document, or finds that this was done before. Only what verified is kept, and only what does not
 * depend on the time.
 */
export async function verifiedCollateral(
  document: string,
  root: string,
  findings: Findings,
): Promise<VerifiedIntelCollateral | undefined> {
  const key = `${root} ${await sha256Hex(utf8(document))}`;
  const known = kept.get(key);
  if (known !== undefined) {
    findings.passed(COLLATERAL_CHECKS);
    return known;
  }
  const verified = await verifyIntelCollateral(parseIntelCollateral(document), root, findings);
  if (verified !== undefined) kept.set(key, verified);
  return verified;
}
