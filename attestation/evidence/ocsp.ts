import { equalBytes } from '../../proto/index.ts';
import { parseSignatureAlgorithm, type SignatureAlgorithm } from './algorithms.ts';
import { contextTag, DER, DerReader, soleSequence, wholeBits } from './der.ts';
import { parseTime } from './der-time.ts';
import { parseExtensions } from './extensions.ts';
import { refuse } from './reasons.ts';
import { parseCertificate, parseSerial, type Certificate } from './x509.ts';

/** Largest response, in bytes; NVIDIA's have about 1000. */
const RESPONSE_BYTES_MAX = 64 * 1024;
/** Most answers, and most certificates, in one response. */
const ITEMS_MAX = 16;

export const OCSP_NONCE = '1.3.6.1.5.5.7.48.1.2';
const OCSP_BASIC = '1.3.6.1.5.5.7.48.1.1';
export const EXTENDED_KEY_USAGE = '2.5.29.37';
/** Hashes of CertIDs. SHA-1 only names things here. The recorded answers of NVIDIA's are in SHA-384. */
const HASHES: Readonly<Record<string, CertIdHash>> = {
  '1.3.14.3.2.26': 'SHA-1',
  '2.16.840.1.101.3.4.2.1': 'SHA-256',
  '2.16.840.1.101.3.4.2.2': 'SHA-384',
  '2.16.840.1.101.3.4.2.3': 'SHA-512',
};
const HASH_BYTES = { 'SHA-1': 20, 'SHA-256': 32, 'SHA-384': 48, 'SHA-512': 64 } as const;
const RESPONSE_STATUS = [
  'successful',
  'malformedRequest',
  'internalError',
  'tryLater',
  '4',
  'sigRequired',
  'unauthorized',
];

export type CertIdHash = 'SHA-1' | 'SHA-256' | 'SHA-384' | 'SHA-512';

/** Names a certificate by hashes of its issuer's name and key, and its serial number. */
export interface CertId {
  readonly hash: CertIdHash;
  readonly issuerNameHash: Uint8Array;
  readonly issuerKeyHash: Uint8Array;
  readonly serial: Uint8Array;
}

export type OcspStatus =
  | { readonly kind: 'good' }
  | { readonly kind: 'unknown' }
  /** `reason`: CRLReason; 6 is certificateHold. */
  | { readonly kind: 'revoked'; readonly revokedAtMs: number; readonly reason: number | undefined };

export interface OcspAnswer {
  readonly certId: CertId;
  readonly status: OcspStatus;
  /** ms since the epoch. */
  readonly thisUpdateMs: number;
  readonly nextUpdateMs: number | undefined;
}

/** A basic OCSP response (RFC 6960 §4.2.1). Bytes are views; nothing is verified yet. */
export interface OcspResponse {
  /** The signed part. */
  readonly tbs: Uint8Array;
  /** The responder: DER of its name, or the SHA-1 of its key. */
  readonly responder: { readonly name: Uint8Array } | { readonly keyHash: Uint8Array };
  readonly producedAtMs: number;
  readonly answers: readonly OcspAnswer[];
  /** Content of the nonce extension. */
  readonly nonce: Uint8Array | undefined;
  readonly signatureAlgorithm: SignatureAlgorithm;
  readonly signature: Uint8Array;
  readonly certificates: readonly Certificate[];
}

/**
 * Parses an OCSPResponse.
 *
 * @throws {Refusal} `parse/der`, `parse/length`, `parse/duplicate`, `parse/unsupported-version`, `parse/unsupported-algorithm`, and
 *   `revocation/missing` when the responder says that it has no answer
 */
export function parseOcspResponse(der: Uint8Array): OcspResponse {
  if (der.length > RESPONSE_BYTES_MAX)
    refuse('parse/length', `OCSP response has ${der.length} bytes, at most ${RESPONSE_BYTES_MAX} are taken`);
  const outer = soleSequence(der, 'OCSP response');
  const status = enumerated(outer, 'response status');
  if (status !== 0)
    refuse('revocation/missing', `the OCSP responder has no answer: ${RESPONSE_STATUS[status] ?? status}`);
  const wrapped = new DerReader(outer.take(contextTag(0), 'response bytes'));
  outer.finish('OCSP response');
  const typed = wrapped.sequence('response bytes');
  wrapped.finish('response bytes');
  if (typed.oid('response type') !== OCSP_BASIC)
    refuse('parse/unsupported-version', 'OCSP response is not a basic one');
  const basic = soleSequence(typed.take(DER.octetString, 'response'), 'basic response');
  typed.finish('response bytes');
  return parseBasic(basic);
}

function parseBasic(basic: DerReader): OcspResponse {
  const data = basic.element(DER.sequence, 'response data');
  const algorithm = basic.element(DER.sequence, 'signatureAlgorithm');
  const signature = wholeBits(basic.take(DER.bitString, 'signature'), 'signature');
  const certificates = basic.optional(contextTag(0), 'certificates')?.content;
  basic.finish('basic response');
  return {
    tbs: data.bytes,
    ...parseData(new DerReader(data.content)),
    signatureAlgorithm: parseSignatureAlgorithm(algorithm.bytes),
    signature,
    certificates: certificates === undefined ? [] : parseCertificates(certificates),
  };
}

function parseData(data: DerReader): Pick<OcspResponse, 'responder' | 'producedAtMs' | 'answers' | 'nonce'> {
  const version = data.optional(contextTag(0), 'version')?.content;
  if (version !== undefined && !equalBytes(version, Uint8Array.of(DER.integer, 1, 0)))
    refuse('parse/unsupported-version', 'OCSP response is not version 1');
  const responder = parseResponder(data);
  const producedAtMs = parseTime(data, 'producedAt');
  const answers = items(data.sequence('responses'), parseAnswer);
  if (answers.length === 0) refuse('parse/der', 'OCSP response has no answer');
  const extensions = data.optional(contextTag(1), 'response extensions')?.content;
  data.finish('response data');
  const nonce = extensions === undefined ? undefined : parseExtensions(extensions, [OCSP_NONCE]).get(OCSP_NONCE);
  return { responder, producedAtMs, answers, nonce };
}

function parseResponder(data: DerReader): OcspResponse['responder'] {
  const { tag, content } = data.any('responder id');
  const reader = new DerReader(content);
  const byName = tag === contextTag(1);
  if (!byName && tag !== contextTag(2)) refuse('parse/der', `responder id has tag ${tag}`);
  const inner = reader.element(byName ? DER.sequence : DER.octetString, 'responder id');
  reader.finish('responder id');
  if (byName) return { name: inner.bytes };
  if (inner.content.length !== HASH_BYTES['SHA-1']) refuse('parse/der', 'responder key hash is no SHA-1');
  return { keyHash: inner.content };
}

function parseAnswer(list: DerReader): OcspAnswer {
  const answer = list.sequence('answer');
  const certId = parseCertId(answer.sequence('CertID'));
  const status = parseStatus(answer);
  const thisUpdateMs = parseTime(answer, 'thisUpdate');
  const next = answer.optional(contextTag(0), 'nextUpdate')?.content;
  const extensions = answer.optional(contextTag(1), 'answer extensions')?.content;
  answer.finish('answer');
  if (extensions !== undefined) parseExtensions(extensions, []);
  return { certId, status, thisUpdateMs, nextUpdateMs: next === undefined ? undefined : parseNext(next) };
}

function parseNext(content: Uint8Array): number {
  const reader = new DerReader(content);
  const time = parseTime(reader, 'nextUpdate');
  reader.finish('nextUpdate');
  return time;
}

function parseCertId(reader: DerReader): CertId {
  const algorithm = reader.sequence('CertID hash');
  const oid = algorithm.oid('CertID hash');
  const hash = HASHES[oid] ?? refuse('parse/unsupported-algorithm', `CertID hash ${oid} is not supported`);
  if ((algorithm.optional(DER.null, 'CertID hash')?.content.length ?? 0) > 0)
    refuse('parse/der', 'CertID hash has a long NULL');
  algorithm.finish('CertID hash');
  const issuerNameHash = reader.take(DER.octetString, 'issuer name hash');
  const issuerKeyHash = reader.take(DER.octetString, 'issuer key hash');
  const serial = parseSerial(reader.take(DER.integer, 'serial number'));
  reader.finish('CertID');
  if (issuerNameHash.length !== HASH_BYTES[hash] || issuerKeyHash.length !== HASH_BYTES[hash])
    refuse('parse/der', `CertID hashes are no ${hash}`);
  return { hash, issuerNameHash, issuerKeyHash, serial };
}

/** CertStatus: IMPLICIT [0] NULL, [1] RevokedInfo, [2] NULL. */
function parseStatus(answer: DerReader): OcspStatus {
  const { tag, content } = answer.any('certificate status');
  if (tag === contextTag(1)) return parseRevoked(new DerReader(content));
  if ((tag !== 0x80 && tag !== 0x82) || content.length > 0) refuse('parse/der', `certificate status has tag ${tag}`);
  return { kind: tag === 0x80 ? 'good' : 'unknown' };
}

function parseRevoked(info: DerReader): OcspStatus {
  const revokedAtMs = parseTime(info, 'revocation time');
  const wrapped = info.optional(contextTag(0), 'revocation reason')?.content;
  info.finish('revocation');
  if (wrapped === undefined) return { kind: 'revoked', revokedAtMs, reason: undefined };
  const reader = new DerReader(wrapped);
  const reason = enumerated(reader, 'revocation reason');
  reader.finish('revocation reason');
  return { kind: 'revoked', revokedAtMs, reason };
}

/** Responders' certificates mark their purpose critical; whoever trusts one looks at it. */
function parseCertificates(content: Uint8Array): Certificate[] {
  const wrapped = new DerReader(content);
  const list = wrapped.sequence('certificates');
  wrapped.finish('certificates');
  return items(list, (reader) =>
    parseCertificate(reader.element(DER.sequence, 'certificate').bytes, [EXTENDED_KEY_USAGE]),
  );
}

function items<T>(list: DerReader, parse: (list: DerReader) => T): T[] {
  const found: T[] = [];
  while (!list.done) {
    if (found.length === ITEMS_MAX) refuse('parse/length', `OCSP response has over ${ITEMS_MAX} items`);
    found.push(parse(list));
  }
  return found;
}

function enumerated(reader: DerReader, field: string): number {
  const [value, ...more] = reader.take(DER.enumerated, field);
  if (value === undefined || more.length > 0 || value >= 0x80) refuse('parse/der', `${field} is no small number`);
  return value;
}

/** Purposes of the extended key usage extension; none when it is absent. */
export function extendedKeyUsages({ extensions }: Certificate): string[] {
  const value = extensions.get(EXTENDED_KEY_USAGE);
  if (value === undefined) return [];
  const list = soleSequence(value, 'extended key usage');
  const purposes: string[] = [];
  while (!list.done) purposes.push(list.oid('extended key usage'));
  return purposes;
}

/** The key's bits without its algorithm, which is what OCSP hashes. */
export function publicKeyBits({ publicKey }: Certificate): Uint8Array {
  const info = soleSequence(publicKey.spki, 'subjectPublicKeyInfo');
  info.take(DER.sequence, 'key algorithm');
  return wholeBits(info.take(DER.bitString, 'public key'), 'public key');
}
