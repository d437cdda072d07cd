import { concatBytes, equalBytes, sha256, toHex } from '../../../proto/index.ts';
import { parseSgxExtension, type SgxExtension } from '../../evidence/pck.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { TdxQuote } from '../../evidence/tdx.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { requireValidAt, verifyLinks } from '../pki/chain.ts';
import { verifyEcdsa } from '../pki/signatures.ts';

/** PCK leaf, PCK CA, root. */
const PCK_CHAIN_CERTIFICATES = 3;

/** The platform's certificate, and what it says. Whether it is to be believed, the findings tell. */
export interface PckCertificate {
  readonly leaf: Certificate;
  readonly ca: Certificate;
  readonly extension: SgxExtension;
}

/**
 * @throws {Refusal} `certificate/missing-intermediate`, `certificate/wrong-role` for a chain that cannot be a platform's
 */
export function readPckChain({ pckChain }: TdxQuote): PckCertificate {
  const [leaf, ca] = pckChain;
  if (leaf === undefined || ca === undefined || pckChain.length !== PCK_CHAIN_CERTIFICATES)
    refuse('certificate/missing-intermediate', `PCK chain has ${pckChain.length} certificates, expected 3`);
  return { leaf, ca, extension: parseSgxExtension(leaf) };
}

/** Chain and signatures: that a platform with a PCK certificate made this quote. */
export async function verifyQuote(
  quote: TdxQuote,
  { leaf }: PckCertificate,
  { root, now }: { readonly root: string; readonly now: Date },
  findings: Findings,
): Promise<void> {
  await findings.checkAll([
    ['PCK certificate: chain', () => verifyPckChain(quote.pckChain, leaf, root)],
    [
      'PCK certificate: dates',
      () => {
        for (const certificate of quote.pckChain) requireValidAt(certificate, now, certificate.subjectCommonName);
      },
    ],
    ['quoting enclave: report signature', () => verifyQeReport(quote, leaf)],
    ['quoting enclave: attestation key', () => verifyAttestationKey(quote)],
    ['quote: signature', () => verifyQuoteSignature(quote)],
  ]);
}

async function verifyPckChain(chain: readonly Certificate[], leaf: Certificate, root: string): Promise<void> {
  await verifyLinks(chain, { root, what: 'PCK chain' });
  // The TCB signing chain ends at the same root; its key must not pass for a platform's.
  const isP256 = leaf.publicKey.type === 'ec' && leaf.publicKey.curve === 'P-256';
  if (!leaf.subjectCommonName.includes('SGX PCK Certificate') || !isP256)
    refuse('certificate/wrong-role', `${leaf.subjectCommonName} is not a PCK certificate`);
}

async function verifyQeReport({ qeReport, qeReportSignature }: TdxQuote, { publicKey }: Certificate): Promise<void> {
  if (publicKey.type !== 'ec' || !(await verifyEcdsa(publicKey, 'SHA-256', qeReportSignature, qeReport.bytes)))
    refuse('evidence/qe-report-signature', "the PCK key did not sign the quoting enclave's report");
}

/** The enclave vouches for the attestation key by its own report data: SHA-256(key ‖ authentication data) ‖ zeros. */
async function verifyAttestationKey({ attestationKey, qeAuthenticationData, qeReport }: TdxQuote): Promise<void> {
  const digest = await sha256(concatBytes(attestationKey, qeAuthenticationData));
  if (!equalBytes(qeReport.reportData, concatBytes(digest, new Uint8Array(32))))
    refuse(
      'evidence/attestation-key-binding',
      `the quoting enclave's report names ${toHex(qeReport.reportData)}, not the attestation key`,
    );
}

async function verifyQuoteSignature({ attestationKey, signature, signedBytes }: TdxQuote): Promise<void> {
  const key = { curve: 'P-256', xy: attestationKey } as const;
  if (!(await verifyEcdsa(key, 'SHA-256', signature, signedBytes)))
    refuse('evidence/quote-signature', 'the attestation key did not sign this quote');
}
