import { contextTag, DER } from '../evidence/der.ts';
import { der, octetString, oid, sequence } from '../evidence/der-writer.ts';
import { OCSP_NONCE, publicKeyBits } from '../evidence/ocsp.ts';
import type { Certificate } from '../evidence/x509.ts';

type Bytes = Uint8Array<ArrayBuffer>;

const SHA384 = '2.16.840.1.101.3.4.2.2';

/**
 * Writes an OCSPRequest (RFC 6960 §4.1.1) for one certificate, its CertID by SHA-384, as in the recorded answers of NVIDIA's.
 *
 * @param nonce 1 to 32 bytes, when the answer must be made for this request
 */
export async function writeOcspRequest(
  certificate: Certificate,
  issuer: Certificate,
  nonce?: Uint8Array,
): Promise<Bytes> {
  const certId = sequence(
    sequence(oid(SHA384), der(DER.null)),
    octetString(await sha384(certificate.issuer)),
    octetString(await sha384(publicKeyBits(issuer))),
    der(DER.integer, certificate.serial),
  );
  const extensions =
    nonce === undefined
      ? []
      : [der(contextTag(2), sequence(sequence(oid(OCSP_NONCE), octetString(nonceExtension(nonce)))))];
  return sequence(sequence(sequence(sequence(certId)), ...extensions));
}

/** Content of the nonce extension, which the answer must repeat (RFC 8954). */
export function nonceExtension(nonce: Uint8Array): Bytes {
  return octetString(nonce);
}

async function sha384(bytes: Uint8Array): Promise<Bytes> {
  return new Uint8Array(await crypto.subtle.digest('SHA-384', new Uint8Array(bytes)));
}
