import { equalBytes, toHex } from '../../../proto/index.ts';
import {
  extendedKeyUsages,
  publicKeyBits,
  type CertId,
  type CertIdHash,
  type OcspAnswer,
  type OcspResponse,
} from '../../evidence/ocsp.ts';
import { refuse } from '../../evidence/reasons.ts';
import { KEY_USAGE_DIGITAL_SIGNATURE, type Certificate } from '../../evidence/x509.ts';
import { isSignedBy, requireValidAt } from './chain.ts';
import { verifySignature } from './signatures.ts';

const OCSP_SIGNING = '1.3.6.1.5.5.7.3.9';
const REASON_HOLD = 6;
/** CRLReason (RFC 5280 §5.3.1). */
const REASONS = [
  'unspecified',
  'keyCompromise',
  'cACompromise',
  'affiliationChanged',
  'superseded',
  'cessationOfOperation',
  'certificateHold',
  '7',
  'removeFromCRL',
  'privilegeWithdrawn',
  'aACompromise',
];
/** Responders sign when they are asked, so the answer's time is the present; clocks differ that much. */
const CLOCK_SKEW_MS = 60_000;

export interface OcspOptions {
  readonly now: Date;
  /** Content of the nonce extension of the request, when one was sent. */
  readonly nonce?: Uint8Array;
  /** Whether a certificate on hold counts as good, which the policy says. */
  readonly holdTolerated?: boolean;
  /** For messages, such as `GPU 0 chain`. */
  readonly what: string;
}

/** An answer that says until when it counts. */
type CurrentAnswer = OcspAnswer & { readonly nextUpdateMs: number };

/**
 * Verifies that a response says `good` of a certificate, at `now`. The issuer's own chain is verified elsewhere; the response is
 * signed by the issuer, or by a certificate that the issuer issued for that purpose (RFC 6960 §4.2.2.2). Revocation of the
 * responder's certificate is not looked up: RFC 6960 leaves it to `ocsp-nocheck`, and it lives three years.
 *
 * @throws {Refusal} `revocation/wrong-issuer` (of another certificate or responder), `revocation/signature`,
 *   `revocation/not-yet-valid`, `revocation/stale`, `revocation/nonce-missing`, `revocation/status-unknown`, `revocation/hold`,
 *   `certificate/revoked`, `certificate/expired`, `certificate/not-yet-valid`
 */
export async function verifyOcsp(
  response: OcspResponse,
  certificate: Certificate,
  issuer: Certificate,
  options: OcspOptions,
): Promise<void> {
  const answer = await verifyOcspAnswer(response, certificate, issuer, options);
  requireGood(answer, nameOf(certificate, options), options.holdTolerated === true);
}

/**
 * The part of {@link verifyOcsp} that says whether the answer counts, whatever it says.
 *
 * @throws {Refusal} those of {@link verifyOcsp} but for what the status means
 */
export async function verifyOcspAnswer(
  response: OcspResponse,
  certificate: Certificate,
  issuer: Certificate,
  options: Omit<OcspOptions, 'holdTolerated'>,
): Promise<CurrentAnswer> {
  const { now } = options;
  const name = nameOf(certificate, options);
  const answer = await findOcspAnswer(response, certificate, issuer);
  if (answer === undefined) refuse('revocation/wrong-issuer', `${name} answers for other certificates`);
  const responder = await findResponder(response, issuer, name);
  if (!(await verifySignature(responder.publicKey, response.signatureAlgorithm, response.signature, response.tbs)))
    refuse('revocation/signature', `${name} is not signed by ${responder.subjectCommonName}`);
  const current = requireCurrent(response, answer, now, name);
  if (responder !== issuer) requireValidAt(responder, now, `${name}: responder ${responder.subjectCommonName}`);
  if (options.nonce !== undefined && (response.nonce === undefined || !equalBytes(response.nonce, options.nonce)))
    refuse('revocation/nonce-missing', `${name} does not answer our nonce`);
  return current;
}

function nameOf({ subjectCommonName }: Certificate, { what }: Pick<OcspOptions, 'what'>): string {
  return `${what}: OCSP of ${subjectCommonName}`;
}

/**
 * What a response says of a certificate, found by its CertID; `undefined` when it answers for others only.
 *
 * @throws {Refusal} `parse/duplicate` when it answers twice
 */
export async function findOcspAnswer(
  { answers }: OcspResponse,
  certificate: Certificate,
  issuer: Certificate,
): Promise<OcspAnswer | undefined> {
  const found: OcspAnswer[] = [];
  for (const answer of answers) if (await isOf(answer.certId, certificate, issuer)) found.push(answer);
  if (found.length > 1) refuse('parse/duplicate', `OCSP response answers twice for ${certificate.subjectCommonName}`);
  return found[0];
}

async function isOf(certId: CertId, certificate: Certificate, issuer: Certificate): Promise<boolean> {
  if (!equalBytes(certId.serial, certificate.serial)) return false;
  if (!equalBytes(certId.issuerNameHash, await digest(certId.hash, certificate.issuer))) return false;
  return equalBytes(certId.issuerKeyHash, await digest(certId.hash, publicKeyBits(issuer)));
}

/** The one that the response names: the issuer itself, or a certificate of the issuer for signing OCSP. */
async function findResponder(response: OcspResponse, issuer: Certificate, name: string): Promise<Certificate> {
  for (const candidate of [issuer, ...response.certificates]) {
    if (!(await isNamed(response, candidate))) continue;
    if (candidate !== issuer && !equalBytes(candidate.der, issuer.der)) await requireDelegated(candidate, issuer, name);
    return candidate;
  }
  refuse('revocation/wrong-issuer', `${name} lacks the certificate of its responder`);
}

async function isNamed({ responder }: OcspResponse, candidate: Certificate): Promise<boolean> {
  if ('name' in responder) return equalBytes(responder.name, candidate.subject);
  return equalBytes(responder.keyHash, await digest('SHA-1', publicKeyBits(candidate)));
}

async function requireDelegated(responder: Certificate, issuer: Certificate, name: string): Promise<void> {
  const who = `${name}: responder ${responder.subjectCommonName}`;
  if (!equalBytes(responder.issuer, issuer.subject) || !(await isSignedBy(responder, issuer)))
    refuse('revocation/wrong-issuer', `${who} is not issued by ${issuer.subjectCommonName}`);
  const maySign = responder.keyUsage === undefined || (responder.keyUsage & KEY_USAGE_DIGITAL_SIGNATURE) !== 0;
  if (responder.isCa || !maySign || !extendedKeyUsages(responder).includes(OCSP_SIGNING))
    refuse('revocation/wrong-issuer', `${who} may not sign OCSP responses`);
}

function requireCurrent(response: OcspResponse, answer: OcspAnswer, now: Date, name: string): CurrentAnswer {
  const time = now.getTime();
  const from = Math.max(answer.thisUpdateMs, response.producedAtMs);
  // Written so that an invalid date refuses.
  if (!(time + CLOCK_SKEW_MS >= from)) refuse('revocation/not-yet-valid', `${name} counts from ${iso(from)} on`);
  const { nextUpdateMs } = answer;
  if (nextUpdateMs === undefined) refuse('revocation/stale', `${name} does not say until when it counts`);
  if (!(time <= nextUpdateMs)) refuse('revocation/stale', `${name} counted until ${iso(nextUpdateMs)}`);
  return { ...answer, nextUpdateMs };
}

function requireGood({ status, certId }: OcspAnswer, name: string, holdTolerated: boolean): void {
  if (status.kind === 'good') return;
  if (status.kind === 'unknown') refuse('revocation/status-unknown', `${name}: the responder does not know it`);
  const { reason } = status;
  const why = reason === undefined ? 'no reason given' : (REASONS[reason] ?? String(reason));
  const since = `since ${iso(status.revokedAtMs)} (serial ${toHex(certId.serial)}, ${why})`;
  if (reason !== REASON_HOLD) refuse('certificate/revoked', `${name}: revoked ${since}`);
  if (!holdTolerated) refuse('revocation/hold', `${name}: on hold ${since}`);
}

/** Whether an answer, whatever its dates, says that the certificate is revoked for good. */
export function saysRevoked(answer: OcspAnswer | undefined): boolean {
  return answer?.status.kind === 'revoked' && answer.status.reason !== REASON_HOLD;
}

async function digest(hash: CertIdHash, bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest(hash, new Uint8Array(bytes)));
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
