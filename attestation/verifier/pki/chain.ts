import { equalBytes, sha256Hex } from '../../../proto/index.ts';
import { refuse } from '../../evidence/reasons.ts';
import { KEY_USAGE_CERTIFICATE_SIGN, KEY_USAGE_DIGITAL_SIGNATURE, type Certificate } from '../../evidence/x509.ts';
import { BoundedMap } from '../bounded-map.ts';
import { mapKey } from './map-key.ts';
import { settled } from './settled.ts';
import { verifySignature } from './signatures.ts';

export interface ChainOptions {
  /** SHA-256 of the root certificate's DER, hexadecimal. */
  readonly root: string;
  readonly now: Date;
  /** For messages, such as `PCK chain`. */
  readonly what: string;
  /** The chain begins with a CA, as those do that come with a CRL. */
  readonly leafIsCa?: boolean;
}

/**
 * Verifies a chain, leaf first, up to the pinned root (which must be in the chain, and last): names, signatures, CA flags, path
 * lengths, key usage, dates at `now`. Does **not** check revocation.
 *
 * @throws {Refusal} `certificate/untrusted-root` for another root; `missing-intermediate`, `broken-link`, `ca-flag`, `wrong-role`,
 *   `not-yet-valid` and `expired` for the rest, the first of them in this order.
 */
export async function verifyChain(chain: readonly Certificate[], options: ChainOptions): Promise<void> {
  await verifyLinks(chain, options);
  for (const [depth, certificate] of chain.entries())
    requireValidAt(certificate, options.now, named(certificate, depth, options));
}

/** All of {@link verifyChain} that does not depend on the time, so that its outcome can be kept. */
export async function verifyLinks(chain: readonly Certificate[], options: Omit<ChainOptions, 'now'>): Promise<void> {
  const { root, what, leafIsCa = false } = options;
  const last = chain.at(-1);
  if (last === undefined || chain.length < 2)
    refuse('certificate/missing-intermediate', `${what} has ${chain.length} certificates, expected at least 2`);
  // Signatures take long and wait for nothing: all of them are begun first.
  const signed = chain.slice(1).map((issuer, depth) => settled(isSignedBy(chain[depth] ?? issuer, issuer)));
  if ((await sha256Hex(last.der)) !== root)
    refuse('certificate/untrusted-root', `${what} ends at a root that is not the pinned one`);
  for (const [depth, certificate] of chain.entries()) {
    const name = named(certificate, depth, options);
    const issuer = chain[depth + 1];
    if (issuer !== undefined) {
      requireIssuerName(certificate, issuer, chain, name);
      if (!(await signed[depth]))
        refuse('certificate/broken-link', `${name}: the next certificate's key did not sign it`);
    } // the root is pinned byte for byte, its own signature with it
    requireRole(certificate, leafIsCa ? depth + 1 : depth, name);
  }
}

/**
 * @throws {Refusal} `certificate/not-yet-valid`, `certificate/expired`
 */
export function requireValidAt(certificate: Certificate, now: Date, name: string): void {
  const time = now.getTime();
  // Written so that an invalid date refuses.
  if (!(time >= certificate.notBeforeMs))
    refuse('certificate/not-yet-valid', `${name} is not valid before ${iso(certificate.notBeforeMs)}`);
  if (!(time <= certificate.notAfterMs))
    refuse('certificate/expired', `${name} has expired on ${iso(certificate.notAfterMs)}`);
}

/** Largest certificate whose outcome is kept, in bytes. */
const KEPT_CERTIFICATE_BYTES_MAX = 4096;
/** Pairs of a CA certificate and an issuer's key that signed it: the upper links come again in every chain of a vendor. */
const signedCas = new BoundedMap<string, true>(128);
/** The same for end entities: a machine brings its own again with each of its leases. Apart, for there are many of them. */
const signedEntities = new BoundedMap<string, true>(1024);

/** Whether the issuer's key made the certificate's signature. Names and roles are another matter. */
export async function isSignedBy(certificate: Certificate, issuer: Certificate): Promise<boolean> {
  const { der, signatureAlgorithm, signature, tbs, isCa } = certificate;
  const { publicKey } = issuer;
  const keep = der.length <= KEPT_CERTIFICATE_BYTES_MAX;
  const signedPairs = isCa ? signedCas : signedEntities;
  const pair = keep ? `${publicKey.spki.length} ${mapKey(publicKey.spki)}${mapKey(der)}` : '';
  if (keep && signedPairs.get(pair) !== undefined) return true;
  const signed = await verifySignature(publicKey, signatureAlgorithm, signature, tbs);
  if (keep && signed) signedPairs.set(pair, true);
  return signed;
}

function requireIssuerName(
  certificate: Certificate,
  issuer: Certificate,
  chain: readonly Certificate[],
  name: string,
): void {
  if (equalBytes(certificate.issuer, issuer.subject)) return;
  if (chain.some(({ subject }) => equalBytes(subject, certificate.issuer)))
    refuse('certificate/broken-link', `${name} is not followed by its issuer, which stands elsewhere in the chain`);
  refuse('certificate/missing-intermediate', `${name}: its issuer is not in the chain`);
}

function requireRole(certificate: Certificate, depth: number, name: string): void {
  const mayBe = (bit: number): boolean => certificate.keyUsage === undefined || (certificate.keyUsage & bit) !== 0;
  if (depth === 0) {
    if (certificate.isCa) refuse('certificate/ca-flag', `${name} is a CA, not an end entity`);
    if (!mayBe(KEY_USAGE_DIGITAL_SIGNATURE)) refuse('certificate/wrong-role', `${name} may not sign data`);
    return;
  }
  if (!certificate.isCa) refuse('certificate/ca-flag', `${name} is not a CA`);
  if (!mayBe(KEY_USAGE_CERTIFICATE_SIGN)) refuse('certificate/wrong-role', `${name} may not sign certificates`);
  if (certificate.pathLength !== undefined && depth - 1 > certificate.pathLength)
    refuse('certificate/wrong-role', `${name} allows fewer certificates below it`);
}

function named(certificate: Certificate, depth: number, { what }: Pick<ChainOptions, 'what'>): string {
  return `${what}: certificate ${depth} (${certificate.subjectCommonName})`;
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
