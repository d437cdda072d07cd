import { equalBytes } from '../../proto/index.ts';
import { parseSignatureAlgorithm, type SignatureAlgorithm } from './algorithms.ts';
import { contextTag, DER, DerReader, soleSequence, wholeBits } from './der.ts';
import { parseTime } from './der-time.ts';
import { parseExtensions } from './extensions.ts';
import { refuse } from './reasons.ts';
import { parseSerial } from './x509.ts';

/** Largest list, in bytes; the vendors' have a few kB. */
const CRL_BYTES_MAX = 4 * 1024 * 1024;

const OID = {
  reasonCode: '2.5.29.21',
  deltaIndicator: '2.5.29.27',
  issuingDistributionPoint: '2.5.29.28',
};
const REASON_HOLD = 6;

/** A certificate revocation list (RFC 5280 §5). Bytes are views; nothing is verified yet. */
export interface Crl {
  readonly der: Uint8Array;
  /** The signed part. */
  readonly tbs: Uint8Array;
  readonly issuer: Uint8Array;
  /** ms since the epoch. */
  readonly thisUpdateMs: number;
  /** Always required: a list without an end could be shown for ever. */
  readonly nextUpdateMs: number;
  /** The entries, not yet read; see {@link findRevoked}. */
  readonly entries: Uint8Array;
  readonly signatureAlgorithm: SignatureAlgorithm;
  readonly signature: Uint8Array;
}

/**
 * Parses a complete, direct list of version 2. Lists that are deltas, indirect, or of one distribution point do not answer for
 * every certificate of the issuer, and are refused. Entries are read by {@link findRevoked}.
 *
 * @throws {Refusal} `parse/der`, `parse/duplicate`, `parse/length`, `parse/unsupported-version`, `parse/unsupported-algorithm`
 */
export function parseCrl(der: Uint8Array): Crl {
  if (der.length > CRL_BYTES_MAX)
    refuse('parse/length', `CRL has ${der.length} bytes, at most ${CRL_BYTES_MAX} are taken`);
  const outer = soleSequence(der, 'CRL');
  const tbs = outer.element(DER.sequence, 'tbsCertList');
  const algorithm = outer.element(DER.sequence, 'signatureAlgorithm');
  const signature = wholeBits(outer.take(DER.bitString, 'signatureValue'), 'signatureValue');
  outer.finish('CRL');

  const reader = new DerReader(tbs.content);
  if (!reader.isNext(DER.integer) || reader.integer('version') !== 1)
    refuse('parse/unsupported-version', 'CRL is not version 2');
  if (!equalBytes(reader.element(DER.sequence, 'signature').bytes, algorithm.bytes))
    refuse('parse/der', 'the signature algorithms inside and outside the CRL differ');
  const issuer = reader.element(DER.sequence, 'issuer').bytes;
  const thisUpdateMs = parseTime(reader, 'thisUpdate');
  if (!reader.isNext(DER.utcTime) && !reader.isNext(DER.generalizedTime)) refuse('parse/der', 'CRL has no nextUpdate');
  const nextUpdateMs = parseTime(reader, 'nextUpdate');
  const entries = reader.optional(DER.sequence, 'revokedCertificates')?.content ?? new Uint8Array();
  const list = reader.optional(contextTag(0), 'crlExtensions')?.content;
  reader.finish('tbsCertList');
  const extensions = list === undefined ? undefined : parseExtensions(list, []);
  for (const oid of [OID.deltaIndicator, OID.issuingDistributionPoint])
    if (extensions?.has(oid) === true) refuse('parse/der', `CRL is not a complete one: extension ${oid}`);
  return {
    der,
    tbs: tbs.bytes,
    issuer,
    thisUpdateMs,
    nextUpdateMs,
    entries,
    signatureAlgorithm: parseSignatureAlgorithm(algorithm.bytes),
    signature,
  };
}

/** What a list says of one certificate. */
export interface Revoked {
  readonly revokedAtMs: number;
  /** Suspended (certificateHold) rather than revoked. */
  readonly onHold: boolean;
}

/**
 * Looks a serial number up. Reads every entry, also behind the match, so that a broken list is refused whoever is asked for.
 * Linear in the list, without copies.
 *
 * @throws {Refusal} `parse/der`, also for an entry with an unknown critical extension (such as the issuer of an indirect list)
 */
export function findRevoked(crl: Crl, serial: Uint8Array): Revoked | undefined {
  const reader = new DerReader(crl.entries);
  let found: Revoked | undefined;
  while (!reader.done) {
    const entry = reader.sequence('CRL entry');
    const listed = parseSerial(entry.take(DER.integer, 'serial number'));
    const revokedAtMs = parseTime(entry, 'revocation date');
    const extensions = entry.optional(DER.sequence, 'CRL entry extensions')?.bytes;
    entry.finish('CRL entry');
    const onHold = extensions !== undefined && isOnHold(extensions);
    // Listed twice: the graver entry counts.
    if (equalBytes(listed, serial) && (found === undefined || found.onHold)) found = { revokedAtMs, onHold };
  }
  return found;
}

function isOnHold(bytes: Uint8Array): boolean {
  const reason = parseExtensions(bytes, [OID.reasonCode]).get(OID.reasonCode);
  if (reason === undefined) return false;
  const reader = new DerReader(reason);
  const content = reader.take(DER.enumerated, 'reason code');
  reader.finish('reason code');
  return content.length === 1 && content[0] === REASON_HOLD;
}
