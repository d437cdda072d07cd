import { refuse } from '../../evidence/reasons.ts';
import { parseCrl, type Crl } from '../../evidence/crl.ts';
import { isAmdLeaf } from '../../evidence/amd-certificate.ts';
import { parseCertificate, type Certificate } from '../../evidence/x509.ts';
import { parseAkCertificate } from '../tpm/ak-certificate.ts';
import { decodeBase64 } from './text.ts';

/** Certificates of one input, in its order. */
export interface CertificateFile {
  readonly certificates: readonly Certificate[];
  /** PEM of exactly these. */
  readonly pem: string;
  readonly vendor: Vendor;
}
/** Whose they are, by their names; the chain verification decides whether that is true. */
type Vendor = 'intel' | 'amd' | 'nvidia' | 'other';

const BLOCK = /-----BEGIN (CERTIFICATE|X509 CRL)-----([A-Za-z0-9+/=\t\n\r ]*)-----END \1-----/g;
const BLOCKS_MAX = 64;

/**
 * Certificates and CRLs of a text; what stands between the blocks, such as the file names of a txtar archive, is left out.
 *
 * @throws {Refusal} `parse/pem`, `parse/der`
 */
export function parsePemFile(text: string): { file: CertificateFile | undefined; crls: Crl[] } {
  const blocks = [...text.matchAll(BLOCK)];
  if (blocks.length === 0 || blocks.length > BLOCKS_MAX || blocks.length !== text.split('-----BEGIN ').length - 1)
    refuse('parse/pem', 'the text is no run of PEM certificates and CRLs');
  const crls: Crl[] = [];
  const found: Uint8Array[] = [];
  for (const [, type, body = ''] of blocks) {
    const der = decodeBase64(body.replaceAll(/\s/g, '')) ?? refuse('parse/pem', 'PEM block is not base64');
    if (type === 'CERTIFICATE') found.push(der);
    else crls.push(parseCrl(der));
  }
  // Archives hold certificates as a TPM's storage does, filled up to its size.
  const parse = /^-- .+ --$/m.test(text) ? parseAkCertificate : (der: Uint8Array) => parseCertificate(der);
  return { file: found.length === 0 ? undefined : certificateFile(found.map(parse)), crls };
}

export function certificateFile(certificates: readonly Certificate[]): CertificateFile {
  return { certificates, pem: certificates.map(toPem).join(''), vendor: vendorOf(certificates) };
}

function vendorOf(certificates: readonly Certificate[]): Vendor {
  const names = certificates.map(({ subjectCommonName }) => subjectCommonName);
  if (certificates.some(isAmdLeaf) || names.some((name) => /^(?:SEV-|ARK-)/.test(name))) return 'amd';
  if (names.some((name) => name.startsWith('Intel SGX'))) return 'intel';
  const isService = names.some((name) => name.includes('NVIDIA Attestation Service'));
  if (!isService && names.some((name) => /NVIDIA|^[A-Z]{2}_?\d{2,3} [A-Z]\d\d /.test(name))) return 'nvidia';
  return 'other';
}

function toPem({ der }: Certificate): string {
  const base64 = btoa(Array.from(der, (byte) => String.fromCharCode(byte)).join(''));
  return `-----BEGIN CERTIFICATE-----\n${base64.replaceAll(/.{64}/g, '$&\n').trimEnd()}\n-----END CERTIFICATE-----\n`;
}
