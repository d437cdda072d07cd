import 'reflect-metadata'; // @peculiar/x509 resolves its algorithms through it
import { createPrivateKey, createPublicKey, X509Certificate } from 'node:crypto';
import { X509CertificateGenerator } from '@peculiar/x509';

export interface ClientCertificate {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

const YEARS = 365 * 24 * 60 * 60_000;
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** A self-signed P-256 certificate, by which workers recognise this gateway; they are given it and trust no other. */
export async function makeClientCertificate(now: Date, serialNumber: Uint8Array): Promise<ClientCertificate> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const serial = Buffer.from(serialNumber).toString('hex');
  const certificate = await X509CertificateGenerator.createSelfSigned({
    serialNumber: serial,
    // Workers of a fleet take several: OpenSSL finds an issuer by its name, so each has one of its own.
    name: `CN=cfn gateway ${serial}`,
    notBefore: new Date(now.getTime() - 60_000),
    notAfter: new Date(now.getTime() + 5 * YEARS),
    keys,
    signingAlgorithm: ALGORITHM,
  });
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', keys.privateKey));
  const privateKey = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  return {
    certificatePem: `${certificate.toString('pem').trimEnd()}\n`, // files of several are made with `cat`
    privateKeyPem: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
  };
}

/** Whether certificate and key belong together; a state folder that was restored by halves has two that do not. */
export function isPair({ certificatePem, privateKeyPem }: ClientCertificate): boolean {
  const own = createPublicKey(createPrivateKey(privateKeyPem)).export({ format: 'der', type: 'spki' });
  return new X509Certificate(certificatePem).publicKey.export({ format: 'der', type: 'spki' }).equals(own);
}
