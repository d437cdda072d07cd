import { equalBytes, sha256Hex } from '../../../proto/index.ts';
import { fromBase64 } from '../../evidence/base64.ts';
import { refuse } from '../../evidence/reasons.ts';
import {
  KEY_USAGE_CERTIFICATE_SIGN,
  KEY_USAGE_DIGITAL_SIGNATURE,
  parseCertificate,
  type Certificate,
} from '../../evidence/x509.ts';
import { isSignedBy, requireValidAt } from '../pki/chain.ts';

export interface CertifiedKeyOptions {
  /** SHA-256 of certificates that may vouch for the key, hexadecimal. They need not be roots. */
  readonly anchors: readonly string[];
  readonly curve: string;
  readonly now: Date;
  /** For messages. */
  readonly what: string;
}

/**
 * The key that certificates (`x5c`: standard base64, leaf first) vouch for, up to the first pinned one: names, signatures, roles,
 * path lengths, dates at `now`. Certificates above the pinned one are not looked at. Does **not** check revocation.
 *
 * @throws {Refusal} `certificate/*`; `parse/der` for what is no certificate
 */
export async function certifiedKey(
  certificates: readonly string[],
  { anchors, curve, now, what }: CertifiedKeyOptions,
): Promise<CryptoKey> {
  const chain = certificates.map((text) => parseCertificate(fromBase64(text)));
  const [leaf] = chain;
  if (leaf === undefined) refuse('certificate/missing-intermediate', `${what} carries no certificate (x5c)`);
  requireSigner(leaf, `${what}: certificate 0 (${leaf.subjectCommonName})`);
  requireValidAt(leaf, now, `${what}: certificate 0 (${leaf.subjectCommonName})`);
  for (const [below, certificate] of chain.entries()) {
    const issuer = chain[below + 1];
    if (issuer === undefined) break;
    const name = `${what}: certificate ${below + 1} (${issuer.subjectCommonName})`;
    if (!equalBytes(certificate.issuer, issuer.subject) || !(await isSignedBy(certificate, issuer)))
      refuse('certificate/broken-link', `${name} did not issue the one before it`);
    requireIssuer(issuer, below, name);
    requireValidAt(issuer, now, name);
    if (anchors.includes(await sha256Hex(issuer.der))) return importKey(leaf, curve, what);
  }
  return refuse('certificate/untrusted-root', `${what}: no certificate above its own is a pinned one`);
}

function requireSigner(leaf: Certificate, name: string): void {
  if (leaf.isCa) refuse('certificate/ca-flag', `${name} is a CA, not an end entity`);
  if (!mayBe(leaf, KEY_USAGE_DIGITAL_SIGNATURE)) refuse('certificate/wrong-role', `${name} may not sign data`);
}

function requireIssuer(issuer: Certificate, below: number, name: string): void {
  if (!issuer.isCa) refuse('certificate/ca-flag', `${name} is not a CA`);
  if (!mayBe(issuer, KEY_USAGE_CERTIFICATE_SIGN)) refuse('certificate/wrong-role', `${name} may not sign certificates`);
  if (issuer.pathLength !== undefined && below > issuer.pathLength)
    refuse('certificate/wrong-role', `${name} allows fewer certificates below it`);
}

function mayBe({ keyUsage }: Certificate, bit: number): boolean {
  return keyUsage === undefined || (keyUsage & bit) !== 0;
}

async function importKey({ publicKey }: Certificate, curve: string, what: string): Promise<CryptoKey> {
  if (publicKey.type !== 'ec' || publicKey.curve !== curve)
    refuse('evidence/token-algorithm', `${what}: the certified key is not on ${curve}`);
  const algorithm = { name: 'ECDSA', namedCurve: publicKey.curve };
  try {
    return await crypto.subtle.importKey('spki', new Uint8Array(publicKey.spki), algorithm, false, ['verify']);
  } catch (cause) {
    refuse('evidence/token-signature', `${what}: the certified key is no point of its curve`, { cause });
  }
}
