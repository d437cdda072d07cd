import { equalBytes, toHex } from '../../../proto/index.ts';
import { findRevoked, type Crl } from '../../evidence/crl.ts';
import { refuse } from '../../evidence/reasons.ts';
import { KEY_USAGE_CRL_SIGN, type Certificate } from '../../evidence/x509.ts';
import { verifySignature } from './signatures.ts';

/**
 * Verifies that the issuer (whose own chain is verified elsewhere) signed the list, and that it counts at `now`.
 *
 * @param what for messages, such as `PCK CRL`
 * @throws {Refusal} `revocation/wrong-issuer`, `revocation/signature`, `revocation/not-yet-valid`, `revocation/stale`
 */
export async function verifyCrl(crl: Crl, issuer: Certificate, now: Date, what: string): Promise<void> {
  await verifyCrlSignature(crl, issuer, what);
  requireCrlCurrent(crl, now, what);
}

/** The part of {@link verifyCrl} that does not depend on the time, so that its outcome can be kept. */
export async function verifyCrlSignature(crl: Crl, issuer: Certificate, what: string): Promise<void> {
  if (!equalBytes(crl.issuer, issuer.subject))
    refuse('revocation/wrong-issuer', `${what} is not of ${issuer.subjectCommonName}`);
  if (!issuer.isCa || (issuer.keyUsage !== undefined && (issuer.keyUsage & KEY_USAGE_CRL_SIGN) === 0))
    refuse('revocation/wrong-issuer', `${what}: ${issuer.subjectCommonName} may not sign CRLs`);
  if (!(await verifySignature(issuer.publicKey, crl.signatureAlgorithm, crl.signature, crl.tbs)))
    refuse('revocation/signature', `${what} is not signed by ${issuer.subjectCommonName}`);
}

/**
 * @throws {Refusal} `revocation/not-yet-valid`, `revocation/stale`
 */
export function requireCrlCurrent(crl: Crl, now: Date, what: string): void {
  const time = now.getTime();
  // Written so that an invalid date refuses.
  if (!(time >= crl.thisUpdateMs))
    refuse('revocation/not-yet-valid', `${what} counts from ${new Date(crl.thisUpdateMs).toISOString()} on`);
  if (!(time <= crl.nextUpdateMs))
    refuse('revocation/stale', `${what} should have been renewed by ${new Date(crl.nextUpdateMs).toISOString()}`);
}

/**
 * @throws {Refusal} `certificate/revoked`, `revocation/hold`; `revocation/wrong-issuer` when the list is of another CA, and thus
 *   says nothing of this certificate
 */
export function requireNotRevoked(crl: Crl, certificate: Certificate, what: string): void {
  const name = `${certificate.subjectCommonName} (serial ${toHex(certificate.serial)})`;
  if (!equalBytes(crl.issuer, certificate.issuer))
    refuse('revocation/wrong-issuer', `${what} is not of the issuer of ${name}`);
  const revoked = findRevoked(crl, certificate.serial);
  if (revoked === undefined) return;
  const date = new Date(revoked.revokedAtMs).toISOString();
  if (revoked.onHold) refuse('revocation/hold', `${name} is suspended since ${date} by ${what}`);
  refuse('certificate/revoked', `${name} is revoked since ${date} by ${what}`);
}
