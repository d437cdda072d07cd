import { concatBytes, fromHex, sha256Hex, sha384, toHex, utf8 } from '../../../proto/index.ts';
import { contextTag, DER } from '../../evidence/der.ts';
import { bitString, der, ecdsaSignature, octetString, oid, sequence } from '../../evidence/der-writer.ts';
import { OPAQUE, parseGpuReport } from '../../evidence/nvidia.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import { parseXml, type XmlElement } from '../../evidence/xml.ts';
import { canonicalize } from '../../evidence/xml-canonical.ts';
import { issueCertificate, sign, type CertificateRequest, type Issued } from '../../insecure/certificates.ts';

type Bytes = Uint8Array<ArrayBuffer>;

const VALIDITY = { notBefore: '2024-01-01T00:00:00Z', notAfter: '2030-01-01T00:00:00Z' };
const SHA384 = '2.16.840.1.101.3.4.2.2';

/** A chain of throw-away certificates, P-384, leaf first; the last signs itself. */
export interface Chain {
  readonly issued: readonly Issued[];
  readonly leafKey: CryptoKey;
  /** SHA-256 of the root's DER. */
  readonly root: string;
}

export async function issueChain(
  names: readonly [leaf: string, ...cas: string[]],
  leafExtensions: Readonly<Record<string, Uint8Array>> = {},
): Promise<Chain> {
  const issued: Issued[] = [];
  for (const [i, commonName] of [...names].reverse().entries()) {
    const isLeaf = i === names.length - 1;
    const request: CertificateRequest = {
      commonName,
      curve: 'P-384',
      isCa: !isLeaf,
      ...VALIDITY,
      ...(isLeaf ? { extensions: leafExtensions } : {}),
    };
    issued.unshift(await issueCertificate(request, issued[0]));
  }
  const [leaf] = issued;
  const root = issued.at(-1);
  if (leaf === undefined || root === undefined) throw new RangeError('a chain has certificates');
  return { issued, leafKey: leaf.keys.privateKey, root: await sha256Hex(root.der) };
}

export function issueRimChain(): Promise<Chain> {
  return issueChain(['Test RIM L4 Signer', 'Test RIM L3', 'Test RIM L2', 'Test RIM root']);
}

/** A Blackwell device chain, its firmware id in a DICE TcbInfo. */
export function issueBlackwellChain(firmwareId: Uint8Array, chip = 'GB100'): Promise<Chain> {
  const entry = (digest: Uint8Array): Bytes => sequence(oid(SHA384), octetString(digest));
  const tcbInfo = sequence(
    der(0x80, utf8('NVIDIA')),
    der(0x81, utf8(`${chip} A01 GSP`)),
    der(contextTag(6), entry(firmwareId), entry(new Uint8Array(48))),
    der(0x87, fromHex('0080000001')),
  );
  return issueChain(
    [
      `${chip} A01 GSP FMC LF`,
      `${chip} A01 GSP BROM`,
      `Test ${chip} Provisioner ICA 00000`,
      `Test ${chip} Identity`,
      'Test Device Identity CA',
    ],
    { '2.23.133.5.4.1.1': tcbInfo },
  );
}

export interface ReportParts {
  readonly nonce: Uint8Array;
  readonly values: readonly Uint8Array[];
  readonly fields: Readonly<Partial<Record<keyof typeof OPAQUE, Uint8Array>>>;
}

/** A report signed by the leaf's key. */
export async function writeReport(chain: Chain, { nonce, values, fields }: ReportParts): Promise<Bytes> {
  const record = concatBytes(
    ...values.map((value, i) =>
      concatBytes(Uint8Array.of(i + 1, 1), u16(3 + value.length), Uint8Array.of(1), u16(value.length), value),
    ),
  );
  const opaque = concatBytes(
    ...Object.entries(fields).map(([field, value]) => {
      const type = Object.entries(OPAQUE).find(([name]) => name === field)?.[1] ?? 0;
      return concatBytes(u16(type), u16(value.length), value);
    }),
  );
  const signed = concatBytes(
    fromHex('11e001ff'),
    nonce,
    fromHex('0011600000'),
    Uint8Array.of(values.length),
    u16(record.length & 0xffff),
    Uint8Array.of(record.length >> 16),
    record,
    new Uint8Array(32),
    u16(opaque.length),
    opaque,
  );
  return concatBytes(signed, await sign(chain.leafKey, 'P-384', signed));
}

export function parsedDevice(name: string, report: Uint8Array, chain: Chain) {
  return { name, report: parseGpuReport(report), chain: certificatesOf(chain) };
}

export function certificatesOf({ issued }: Chain) {
  return issued.map((certificate) => parseCertificate(certificate.der));
}

export interface RimParts {
  readonly product: string;
  readonly edition?: string;
  readonly version: string;
  /** By RIM index; a list of several is alternatives. `false` first makes it inactive. */
  readonly values: Readonly<Record<number, readonly Uint8Array[]>>;
  readonly size?: number;
}

/** An unsigned SWID tag like NVIDIA's. */
export function writeSwidTag({ product, edition = 'GPU', version, values, size = 48 }: RimParts): string {
  const resources = Object.entries(values).map(([index, list]) => {
    const hashes = list.map((value, i) => `ns2:Hash${i}="${toHex(value)}"`).join(' ');
    return `<ns0:Resource type="Measurement" index="${index}" active="True" alternatives="${list.length}" ${hashes} name="Measurement_${index}" size="${size}"/>`;
  });
  return `<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns0="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384" name="${product}" tagId="test" version="1.0">
  <ns0:Meta colloquialVersion="${version}" edition="${edition}" product="${product}"/>
  <ns0:Payload>${resources.join('\n')}</ns0:Payload>
</SoftwareIdentity>`;
}

const DSIG = 'http://www.w3.org/2000/09/xmldsig#';
const MORE = 'http://www.w3.org/2001/04/xmldsig-more#';
const C14N = 'http://www.w3.org/2006/12/xml-c14n11';

/** Puts an enveloped signature at the end of a document's root. */
export async function signXml(xml: string, chain: Chain): Promise<Bytes> {
  const digest = base64(await sha384(canonicalize(parseXml(utf8(xml)))));
  const signedInfo = `<ds:SignedInfo><ds:CanonicalizationMethod Algorithm="${C14N}"/><ds:SignatureMethod Algorithm="${MORE}ecdsa-sha384"/><ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="${DSIG}enveloped-signature"/><ds:Transform Algorithm="${C14N}"/></ds:Transforms><ds:DigestMethod Algorithm="${MORE}sha384"/><ds:DigestValue>${digest}</ds:DigestValue></ds:Reference></ds:SignedInfo>`;
  const certificates = chain.issued.map((issued) => `<ds:X509Certificate>${base64(issued.der)}</ds:X509Certificate>`);
  const write = (value: string): string => {
    const end = xml.lastIndexOf('</');
    return `${xml.slice(0, end)}<ds:Signature xmlns:ds="${DSIG}">${signedInfo}<ds:SignatureValue>${value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>${certificates.join('')}</ds:X509Data></ds:KeyInfo></ds:Signature>${xml.slice(end)}`;
  };
  const unsigned = find(parseXml(utf8(write(base64(new Uint8Array(96))))), 'SignedInfo');
  if (unsigned === undefined) throw new RangeError('the document has a signature by now');
  return utf8(write(base64(await sign(chain.leafKey, 'P-384', canonicalize(unsigned)))));
}

function find(element: XmlElement, local: string): XmlElement | undefined {
  if (element.local === local) return element;
  for (const child of element.children) {
    const found = typeof child === 'string' ? undefined : find(child, local);
    if (found !== undefined) return found;
  }
  return undefined;
}

export function base64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

function u16(value: number): Bytes {
  return Uint8Array.of(value & 0xff, value >> 8);
}

export interface OcspParts {
  readonly certificate: Issued;
  readonly issuer: Issued;
  /** Signs; the issuer itself when absent. */
  readonly responder?: Issued;
  /** CertStatus, DER; `good` when absent. */
  readonly status?: Uint8Array;
  readonly hash?: 'SHA-1' | 'SHA-256' | 'SHA-384';
  readonly producedAt?: string;
  readonly thisUpdate?: string;
  /** Absent when null. */
  readonly nextUpdate?: string | null;
  readonly nonce?: Uint8Array;
  readonly byName?: boolean;
  readonly serial?: Uint8Array;
}

export const OCSP_STATUS = {
  good: der(0x80),
  unknown: der(0x82),
  revoked: (reason: number): Bytes =>
    der(contextTag(1), time('20250101000000Z'), der(contextTag(0), der(DER.enumerated, Uint8Array.of(reason)))),
  revokedWithoutReason: der(contextTag(1), time('20250101000000Z')),
};

const HASHES = {
  'SHA-1': '1.3.14.3.2.26',
  'SHA-256': '2.16.840.1.101.3.4.2.1',
  'SHA-384': SHA384,
} as const;

/** A basic OCSP response, as NVIDIA's responders write them. */
export async function writeOcsp(parts: OcspParts): Promise<Bytes> {
  const { issuer, responder = issuer, hash = 'SHA-384', status = OCSP_STATUS.good } = parts;
  const subject = parseCertificate(parts.certificate.der);
  const digest = async (bytes: Uint8Array): Promise<Bytes> =>
    new Uint8Array(await crypto.subtle.digest(hash, new Uint8Array(bytes)));
  const certId = sequence(
    sequence(oid(HASHES[hash]), der(DER.null)),
    octetString(await digest(subject.issuer)),
    octetString(await digest(await keyBits(issuer))),
    der(DER.integer, parts.serial ?? subject.serial),
  );
  const { producedAt = '20251024110000Z', thisUpdate = '20251024110000Z', nextUpdate = '20251025110000Z' } = parts;
  const next = nextUpdate === null ? new Uint8Array() : der(contextTag(0), time(nextUpdate));
  const responderId =
    parts.byName === true
      ? der(contextTag(1), parseCertificate(responder.der).subject)
      : der(contextTag(2), octetString(new Uint8Array(await crypto.subtle.digest('SHA-1', await keyBits(responder)))));
  const nonce =
    parts.nonce === undefined
      ? new Uint8Array()
      : der(contextTag(1), sequence(sequence(oid('1.3.6.1.5.5.7.48.1.2'), octetString(parts.nonce))));
  const data = sequence(
    responderId,
    time(producedAt),
    sequence(sequence(certId, status, time(thisUpdate), next)),
    nonce,
  );
  const signature = bitString(ecdsaSignature(await sign(responder.keys.privateKey, 'P-384', data)));
  const certificates = responder === issuer ? new Uint8Array() : der(contextTag(0), sequence(responder.der));
  const basic = sequence(data, sequence(oid('1.2.840.10045.4.3.3')), signature, certificates);
  return sequence(
    der(DER.enumerated, Uint8Array.of(0)),
    der(contextTag(0), sequence(oid('1.3.6.1.5.5.7.48.1.1'), octetString(basic))),
  );
}

async function keyBits({ keys }: Issued): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.exportKey('raw', keys.publicKey));
}

function time(text: string): Bytes {
  return der(DER.generalizedTime, utf8(text));
}

/** A certificate for signing OCSP responses of an issuer. */
export function issueResponder(issuer: Issued, change: Partial<CertificateRequest> = {}): Promise<Issued> {
  const purpose = sequence(oid('1.3.6.1.5.5.7.3.9'));
  return issueCertificate(
    {
      commonName: 'Test OCSP Responder',
      curve: 'P-384',
      isCa: false,
      ...VALIDITY,
      extensions: { '2.5.29.37': purpose },
      ...change,
    },
    issuer,
  );
}
