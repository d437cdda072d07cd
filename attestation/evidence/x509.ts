import { equalBytes, fromUtf8 } from '../../proto/index.ts';
import { parsePublicKey, parseSignatureAlgorithm, type PublicKey, type SignatureAlgorithm } from './algorithms.ts';
import { contextTag, DER, DerReader, soleSequence, wholeBits } from './der.ts';
import { parseTime } from './der-time.ts';
import { parseExtensions } from './extensions.ts';
import { parsePem } from './pem.ts';
import { refuse } from './reasons.ts';

/** Most certificates in one chain; the vendors' chains have three to five. */
const CHAIN_CERTIFICATES_MAX = 8;
/** Longest serial number, in bytes (RFC 5280 §4.1.2.2), with its sign byte. */
const SERIAL_BYTES_MAX = 21;

/** What appraisal needs of an X.509 certificate (RFC 5280). Bytes are views into `der`; nothing is verified yet. */
export interface Certificate {
  readonly der: Uint8Array;
  /** The signed part. */
  readonly tbs: Uint8Array;
  /** Content of the INTEGER, as it is: AMD's are zero. */
  readonly serial: Uint8Array;
  /** DER of the names; chains are linked by these exact bytes. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  /** Empty when the subject has none. */
  readonly subjectCommonName: string;
  /** ms since the epoch; NVIDIA's end in the year 9999. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly publicKey: PublicKey;
  readonly signatureAlgorithm: SignatureAlgorithm;
  readonly signature: Uint8Array;
  readonly isCa: boolean;
  /** Intermediates allowed below this one; `undefined` when unlimited. */
  readonly pathLength: number | undefined;
  /** First byte of the key usage bits (bit 0 = 0x80); `undefined` when absent. */
  readonly keyUsage: number | undefined;
  readonly extensions: ReadonlyMap<string, Uint8Array>;
}

export const KEY_USAGE_DIGITAL_SIGNATURE = 0x80;
export const KEY_USAGE_CERTIFICATE_SIGN = 0x04;
export const KEY_USAGE_CRL_SIGN = 0x02;

const OID = {
  commonName: '2.5.4.3',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
};

/**
 * Parses one certificate, strictly: version 3, keys and signatures of `evidence/algorithms.ts`, no unknown critical extension.
 *
 * @param understood critical extensions that the caller acts upon, beside basic constraints and key usage
 * @throws {Refusal} `parse/der`, `parse/duplicate`, `parse/unsupported-version`, `parse/unsupported-algorithm`
 */
export function parseCertificate(der: Uint8Array, understood: readonly string[] = []): Certificate {
  const outer = soleSequence(der, 'certificate');
  const tbs = outer.element(DER.sequence, 'tbsCertificate');
  const algorithm = outer.element(DER.sequence, 'signatureAlgorithm');
  const signature = wholeBits(outer.take(DER.bitString, 'signatureValue'), 'signatureValue');
  outer.finish('certificate');

  const reader = new DerReader(tbs.content);
  parseVersion(reader.optional(contextTag(0), 'version')?.content);
  const serial = parseSerial(reader.take(DER.integer, 'serialNumber'));
  // A signature algorithm outside the signed part must not differ from the one inside (RFC 5280 §4.1.1.2).
  if (!equalBytes(reader.element(DER.sequence, 'signature').bytes, algorithm.bytes))
    refuse('parse/der', 'the signature algorithms inside and outside the certificate differ');
  const issuer = reader.element(DER.sequence, 'issuer').bytes;
  const validity = reader.sequence('validity');
  const notBeforeMs = parseTime(validity, 'notBefore');
  const notAfterMs = parseTime(validity, 'notAfter');
  validity.finish('validity');
  const subject = reader.element(DER.sequence, 'subject').bytes;
  const publicKey = parsePublicKey(reader.element(DER.sequence, 'subjectPublicKeyInfo').bytes);
  const list = reader.optional(contextTag(3), 'extensions')?.content;
  reader.finish('tbsCertificate');
  const known = [OID.keyUsage, OID.basicConstraints, ...understood];
  const extensions = list === undefined ? new Map<string, Uint8Array>() : parseExtensions(list, known);

  return {
    der,
    tbs: tbs.bytes,
    serial,
    issuer,
    subject,
    subjectCommonName: commonName(subject),
    notBeforeMs,
    notAfterMs,
    publicKey,
    signatureAlgorithm: parseSignatureAlgorithm(algorithm.bytes),
    signature,
    ...parseBasicConstraints(extensions.get(OID.basicConstraints)),
    keyUsage: parseKeyUsage(extensions.get(OID.keyUsage)),
    extensions,
  };
}

/**
 * Parses a PEM chain, in the order given; see {@link parsePem}.
 *
 * @throws {Refusal} `parse/pem`, and those of {@link parseCertificate}
 */
export function parsePemChain(text: string, understood: readonly string[] = []): Certificate[] {
  return parsePem(text, CHAIN_CERTIFICATES_MAX).map((der) => parseCertificate(der, understood));
}

/** Serial numbers as certificates and CRLs have them: DER, at most 20 bytes and a sign. */
export function parseSerial(content: Uint8Array): Uint8Array {
  const [first, second = 0] = content;
  const padded = content.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80));
  if (first === undefined || padded || content.length > SERIAL_BYTES_MAX)
    refuse('parse/der', 'serial number is not an integer of at most 20 bytes');
  return content;
}

function parseVersion(content: Uint8Array | undefined): void {
  const reader = new DerReader(content ?? refuse('parse/unsupported-version', 'certificate is not version 3'));
  if (reader.integer('version') !== 2) refuse('parse/unsupported-version', 'certificate is not version 3');
  reader.finish('version');
}

function commonName(name: Uint8Array): string {
  const sets = soleSequence(name, 'subject');
  let found: string | undefined;
  while (!sets.done) {
    const set = new DerReader(sets.take(DER.set, 'relative distinguished name'));
    while (!set.done) {
      const attribute = set.sequence('attribute');
      const type = attribute.oid('attribute type');
      const { tag, content } = attribute.any('attribute value');
      attribute.finish('attribute');
      if (type !== OID.commonName) continue;
      if (found !== undefined) refuse('parse/duplicate', 'subject has two common names');
      if (tag !== DER.utf8String && tag !== DER.printableString && tag !== DER.ia5String)
        refuse('parse/der', 'common name is not a text');
      found = text(content);
    }
  }
  return found ?? '';
}

function text(content: Uint8Array): string {
  try {
    return fromUtf8(content, 'CFN_EVIDENCE_MALFORMED');
  } catch (cause) {
    refuse('parse/der', 'common name is not UTF-8', { cause });
  }
}

function parseBasicConstraints(value: Uint8Array | undefined): { isCa: boolean; pathLength: number | undefined } {
  if (value === undefined) return { isCa: false, pathLength: undefined };
  const sequence = soleSequence(value, 'basicConstraints');
  const isCa = sequence.flag('cA');
  const pathLength = sequence.done ? undefined : sequence.integer('pathLenConstraint');
  sequence.finish('basicConstraints');
  return { isCa, pathLength };
}

function parseKeyUsage(value: Uint8Array | undefined): number | undefined {
  if (value === undefined) return undefined;
  const reader = new DerReader(value);
  const content = reader.take(DER.bitString, 'keyUsage');
  reader.finish('keyUsage');
  return content[1] ?? 0;
}
