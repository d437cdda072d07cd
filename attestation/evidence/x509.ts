import { CfnError, equalBytes, fromUtf8 } from '../../proto/index.ts';
import { contextTag, DER, DerReader, soleSequence, wholeBits } from './der.ts';

/** Most certificates in one chain; the vendors' chains have three and five. */
const CHAIN_CERTIFICATES_MAX = 8;

export type Curve = 'P-256' | 'P-384';

/** What appraisal needs of an X.509 certificate (RFC 5280). Bytes are views into `der`; nothing is verified yet. */
export interface Certificate {
  readonly der: Uint8Array;
  /** The signed part. */
  readonly tbs: Uint8Array;
  readonly serial: Uint8Array;
  /** DER of the names; chains are linked by these exact bytes. */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly subjectCommonName: string;
  /** ms since the epoch; NVIDIA's end in the year 9999. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly subjectPublicKeyInfo: Uint8Array;
  readonly curve: Curve;
  /** ECDSA over P-256 with SHA-256, or over P-384 with SHA-384; the curve is the issuer's. */
  readonly signatureHash: 'SHA-256' | 'SHA-384';
  /** DER ECDSA-Sig-Value. */
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

const OID = {
  commonName: '2.5.4.3',
  ecPublicKey: '1.2.840.10045.2.1',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
};
const CURVES: Readonly<Record<string, Curve>> = { '1.2.840.10045.3.1.7': 'P-256', '1.3.132.0.34': 'P-384' };
const SIGNATURES: Readonly<Record<string, 'SHA-256' | 'SHA-384'>> = {
  '1.2.840.10045.4.3.2': 'SHA-256',
  '1.2.840.10045.4.3.3': 'SHA-384',
};

/**
 * Parses one certificate, strictly: version 3, ECDSA over P-256 or P-384, no unknown critical extension.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parseCertificate(der: Uint8Array): Certificate {
  const outer = soleSequence(der, 'certificate');
  const tbs = outer.element(DER.sequence, 'tbsCertificate');
  const algorithm = outer.element(DER.sequence, 'signatureAlgorithm');
  const signature = wholeBits(outer.take(DER.bitString, 'signatureValue'), 'signatureValue');
  outer.finish('certificate');

  const reader = new DerReader(tbs.content);
  const version = new DerReader(reader.take(contextTag(0), 'version'));
  if (version.integer('version') !== 2) throw malformed('certificate is not version 3');
  version.finish('version');
  const serial = reader.take(DER.integer, 'serialNumber');
  // A signature algorithm outside the signed part must not differ from the one inside (RFC 5280 §4.1.1.2).
  if (!equalBytes(reader.element(DER.sequence, 'signature').bytes, algorithm.bytes)) {
    throw malformed('the signature algorithms inside and outside the certificate differ');
  }
  const issuer = reader.element(DER.sequence, 'issuer').bytes;
  const validity = reader.sequence('validity');
  const notBeforeMs = parseTime(validity, 'notBefore');
  const notAfterMs = parseTime(validity, 'notAfter');
  validity.finish('validity');
  const subject = reader.element(DER.sequence, 'subject').bytes;
  const subjectPublicKeyInfo = reader.element(DER.sequence, 'subjectPublicKeyInfo').bytes;
  const extensions = parseExtensions(reader);
  reader.finish('tbsCertificate');

  return {
    der,
    tbs: tbs.bytes,
    serial,
    issuer,
    subject,
    subjectCommonName: commonName(subject),
    notBeforeMs,
    notAfterMs,
    subjectPublicKeyInfo,
    curve: parseCurve(subjectPublicKeyInfo),
    signatureHash: parseSignatureAlgorithm(algorithm.bytes),
    signature,
    ...parseBasicConstraints(extensions.get(OID.basicConstraints)),
    keyUsage: parseKeyUsage(extensions.get(OID.keyUsage)),
    extensions,
  };
}

/**
 * Splits a PEM chain, in the order given. Only white space may stand between the blocks; one trailing NUL is taken,
 * because Intel's quoting library leaves it there.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`
 */
export function parsePemChain(text: string): Certificate[] {
  const block = /\s*-----BEGIN CERTIFICATE-----\s([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/y;
  const body = text.endsWith('\0') ? text.slice(0, -1) : text;
  const chain: Certificate[] = [];
  let at = 0;
  for (let match = block.exec(body); match !== null; match = block.exec(body)) {
    if (chain.length === CHAIN_CERTIFICATES_MAX)
      throw malformed(`chain has over ${CHAIN_CERTIFICATES_MAX} certificates`);
    chain.push(parseCertificate(decodeBase64((match[1] ?? '').replaceAll(/\s/g, ''))));
    at = block.lastIndex;
  }
  if (chain.length === 0 || body.slice(at).trim() !== '')
    throw malformed('certificate chain is not a run of PEM blocks');
  return chain;
}

function decodeBase64(text: string): Uint8Array {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]+={0,2}$/.test(text)) throw malformed('PEM block is not base64');
  const binary = atob(text);
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

function parseTime(reader: DerReader, field: string): number {
  const { tag, content } = reader.any(field);
  const text = fromUtf8(content, 'CFN_EVIDENCE_MALFORMED');
  const match = /^(\d\d)?(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  const general = tag === DER.generalizedTime;
  if (match === null || (!general && tag !== DER.utcTime) || general !== (match[1] !== undefined)) {
    throw malformed(`${field} is not a UTC time`);
  }
  const [century, years = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1)
    .map((part: string | undefined) => (part === undefined ? undefined : Number(part)));
  // RFC 5280 §4.1.2.5.1: two digits mean 1950 to 2049.
  const year = century === undefined ? (years >= 50 ? 1900 : 2000) + years : century * 100 + years;
  const time = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  time.setUTCFullYear(year); // Date.UTC takes years below 100 for 19xx
  if (time.getUTCMonth() !== month - 1 || time.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59) {
    throw malformed(`${field} is not a date`);
  }
  return time.getTime();
}

function commonName(name: Uint8Array): string {
  const sets = soleSequence(name, 'subject');
  let found = '';
  while (!sets.done) {
    const set = new DerReader(sets.take(DER.set, 'relative distinguished name'));
    while (!set.done) {
      const attribute = set.sequence('attribute');
      const type = attribute.oid('attribute type');
      const { tag, content } = attribute.any('attribute value');
      attribute.finish('attribute');
      if (type !== OID.commonName) continue;
      if (found !== '') throw malformed('subject has two common names');
      if (tag !== DER.utf8String && tag !== DER.printableString) throw malformed('common name is not a text');
      found = fromUtf8(content, 'CFN_EVIDENCE_MALFORMED');
    }
  }
  return found;
}

function parseCurve(subjectPublicKeyInfo: Uint8Array): Curve {
  const outer = soleSequence(subjectPublicKeyInfo, 'subjectPublicKeyInfo');
  const algorithm = outer.sequence('key algorithm');
  const type = algorithm.oid('key algorithm');
  const curve = type === OID.ecPublicKey ? CURVES[algorithm.oid('curve')] : undefined;
  if (curve === undefined) throw malformed('public key is not on P-256 or P-384');
  algorithm.finish('key algorithm');
  outer.take(DER.bitString, 'public key');
  outer.finish('subjectPublicKeyInfo');
  return curve;
}

function parseSignatureAlgorithm(bytes: Uint8Array): 'SHA-256' | 'SHA-384' {
  const algorithm = soleSequence(bytes, 'signatureAlgorithm');
  const hash = SIGNATURES[algorithm.oid('signatureAlgorithm')];
  if (hash === undefined) throw malformed('certificate is not signed by ECDSA with SHA-256 or SHA-384');
  algorithm.finish('signatureAlgorithm');
  return hash;
}

function parseExtensions(reader: DerReader): Map<string, Uint8Array> {
  const found = new Map<string, Uint8Array>();
  const wrapped = reader.optional(contextTag(3), 'extensions');
  if (wrapped === undefined) return found;
  const list = soleSequence(wrapped.content, 'extensions');
  while (!list.done) {
    const item = list.sequence('extension');
    const oid = item.oid('extension id');
    const critical = item.optional(DER.boolean, 'critical')?.content[0] === 0xff;
    const value = item.take(DER.octetString, `extension ${oid}`);
    item.finish('extension');
    if (found.has(oid)) throw malformed(`extension ${oid} is there twice`);
    // RFC 5280 §4.2: a critical extension that is not understood refuses the certificate.
    if (critical && oid !== OID.keyUsage && oid !== OID.basicConstraints)
      throw malformed(`unknown critical extension ${oid}`);
    found.set(oid, value);
  }
  return found;
}

function parseBasicConstraints(value: Uint8Array | undefined): { isCa: boolean; pathLength: number | undefined } {
  if (value === undefined) return { isCa: false, pathLength: undefined };
  const sequence = soleSequence(value, 'basicConstraints');
  const isCa = sequence.optional(DER.boolean, 'cA')?.content[0] === 0xff;
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

function malformed(message: string): CfnError {
  return new CfnError('CFN_EVIDENCE_MALFORMED', message);
}
