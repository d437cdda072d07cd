import { concatBytes } from '../../proto/index.ts';
import type { Curve } from '../evidence/algorithms.ts';
import {
  bitString,
  boolean,
  context,
  der,
  ecdsaSignature,
  integer,
  octetString,
  oid,
  sequence,
  time,
  utf8String,
} from '../evidence/der-writer.ts';

export interface CertificateRequest {
  readonly commonName: string;
  readonly curve: Curve;
  readonly isCa: boolean;
  readonly pathLength?: number;
  /** OID → content, beside basic constraints and key usage. */
  readonly extensions?: Readonly<Record<string, Uint8Array>>;
  /** RFC 3339, UTC, whole seconds. Fixed, so that making a platform needs no clock. */
  readonly notBefore: string;
  readonly notAfter: string;
}

export interface Issued {
  readonly der: Uint8Array<ArrayBuffer>;
  readonly keys: CryptoKeyPair;
  readonly request: CertificateRequest;
}

const HASHES = { 'P-256': 'SHA-256', 'P-384': 'SHA-384' } as const;
const SIGNATURE_OIDS = { 'P-256': '1.2.840.10045.4.3.2', 'P-384': '1.2.840.10045.4.3.3' } as const;

/** Makes a key pair, and a certificate for it by `issuer`, or by itself. */
export async function issueCertificate(request: CertificateRequest, issuer?: Issued): Promise<Issued> {
  const keys = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: request.curve }, true, ['sign', 'verify']);
  return { der: await certify(request, keys, issuer ?? { request, keys }), keys, request };
}

async function certify(
  request: CertificateRequest,
  keys: CryptoKeyPair,
  issuer: Pick<Issued, 'keys' | 'request'>,
): Promise<Uint8Array<ArrayBuffer>> {
  const algorithm = sequence(oid(SIGNATURE_OIDS[issuer.request.curve]));
  const serial = crypto.getRandomValues(new Uint8Array(16));
  const tbs = sequence(
    context(0, integer(2)),
    integer(serial),
    algorithm,
    name(issuer.request.commonName),
    sequence(time(request.notBefore), time(request.notAfter)),
    name(request.commonName),
    new Uint8Array(await crypto.subtle.exportKey('spki', keys.publicKey)),
    context(3, sequence(...extensions(request))),
  );
  return sequence(
    tbs,
    algorithm,
    bitString(ecdsaSignature(await sign(issuer.keys.privateKey, issuer.request.curve, tbs))),
  );
}

/** ECDSA, r ‖ s. */
export async function sign(key: CryptoKey, curve: Curve, data: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await crypto.subtle.sign({ name: 'ECDSA', hash: HASHES[curve] }, key, new Uint8Array(data)));
}

export function toPem(certificates: readonly Uint8Array[]): string {
  return certificates
    .map((certificate) => {
      const base64 = btoa(String.fromCharCode(...certificate));
      return `-----BEGIN CERTIFICATE-----\n${base64.replaceAll(/(.{64})(?=.)/g, '$1\n')}\n-----END CERTIFICATE-----\n`;
    })
    .join('');
}

function name(commonName: string): Uint8Array {
  const attribute = (type: string, value: string): Uint8Array => der(0x31, sequence(oid(type), utf8String(value)));
  return sequence(attribute('2.5.4.3', commonName), attribute('2.5.4.10', 'SIMULATED, not a vendor'));
}

function extensions({ isCa, pathLength, extensions: others = {} }: CertificateRequest): Uint8Array[] {
  const constraints = isCa ? [boolean(true), ...(pathLength === undefined ? [] : [integer(pathLength)])] : [];
  // Key usage: keyCertSign and cRLSign (bits 5, 6) or digitalSignature (bit 0).
  const usage = isCa ? bitString(Uint8Array.of(0x06), 1) : bitString(Uint8Array.of(0x80), 7);
  return [
    sequence(oid('2.5.29.15'), boolean(true), octetString(usage)),
    sequence(oid('2.5.29.19'), boolean(true), octetString(sequence(concatBytes(...constraints)))),
    ...Object.entries(others).map(([id, value]) => sequence(oid(id), octetString(value))),
  ];
}
