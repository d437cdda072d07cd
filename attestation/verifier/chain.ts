import { CfnError, equalBytes, sha256Hex } from '../../proto/index.ts';
import { ecdsaSignatureFromDer } from '../evidence/der.ts';
import { KEY_USAGE_CERTIFICATE_SIGN, KEY_USAGE_DIGITAL_SIGNATURE, type Certificate } from '../evidence/x509.ts';
import { verifyEcdsa } from './ecdsa.ts';

export interface ChainOptions {
  /** SHA-256 of the root certificate's DER, hexadecimal. */
  readonly root: string;
  readonly now: Date;
  /** For messages, such as `PCK chain`. */
  readonly what: string;
}

/**
 * Verifies a chain, leaf first, up to the pinned root (which must be in the chain, and last): names, signatures, dates at
 * `now`, CA flags, path lengths, key usage. Does **not** check revocation.
 *
 * @throws {CfnError} `CFN_CHAIN_UNTRUSTED` for another root, `CFN_CHAIN_INVALID` for the rest.
 */
export async function verifyChain(chain: readonly Certificate[], options: ChainOptions): Promise<void> {
  const { root, now, what } = options;
  const last = chain.at(-1);
  if (last === undefined || chain.length < 2)
    throw invalid(`${what} has ${chain.length} certificates, expected at least 2`);
  if ((await sha256Hex(last.der)) !== root)
    throw new CfnError('CFN_CHAIN_UNTRUSTED', `${what} ends at a root that the policy does not name`);
  for (const [depth, certificate] of chain.entries()) {
    const name = `${what}: certificate ${depth} (${certificate.subjectCommonName})`;
    const issuer = chain[depth + 1] ?? certificate; // the root signs itself
    verifyDates(certificate, now, name);
    verifyRole(certificate, depth, name);
    if (!equalBytes(certificate.issuer, issuer.subject)) throw invalid(`${name} is not issued by the next one`);
    await verifySignedBy(certificate, issuer, name);
  }
}

function verifyDates(certificate: Certificate, now: Date, name: string): void {
  const time = now.getTime();
  // Written so that an invalid date refuses.
  if (!(time >= certificate.notBeforeMs))
    throw invalid(`${name} is not valid before ${new Date(certificate.notBeforeMs).toISOString()}`);
  if (!(time <= certificate.notAfterMs))
    throw invalid(`${name} has expired on ${new Date(certificate.notAfterMs).toISOString()}`);
}

function verifyRole(certificate: Certificate, depth: number, name: string): void {
  const mayBe = (bit: number): boolean => certificate.keyUsage === undefined || (certificate.keyUsage & bit) !== 0;
  if (depth === 0) {
    if (certificate.isCa) throw invalid(`${name} is a CA, not an end entity`);
    if (!mayBe(KEY_USAGE_DIGITAL_SIGNATURE)) throw invalid(`${name} may not sign data`);
    return;
  }
  if (!certificate.isCa) throw invalid(`${name} is not a CA`);
  if (!mayBe(KEY_USAGE_CERTIFICATE_SIGN)) throw invalid(`${name} may not sign certificates`);
  if (certificate.pathLength !== undefined && depth - 1 > certificate.pathLength)
    throw invalid(`${name} allows fewer certificates below it`);
}

async function verifySignedBy(certificate: Certificate, issuer: Certificate, name: string): Promise<void> {
  const signature = ecdsaSignatureFromDer(certificate.signature, issuer.curve === 'P-256' ? 32 : 48);
  const key = { spki: issuer.subjectPublicKeyInfo, curve: issuer.curve };
  await verifyEcdsa(key, certificate.signatureHash, signature, certificate.tbs, {
    code: 'CFN_CHAIN_INVALID',
    message: `${name}: the signature does not verify`,
  });
}

function invalid(message: string): CfnError {
  return new CfnError('CFN_CHAIN_INVALID', message);
}
