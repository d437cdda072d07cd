import { createHash } from 'node:crypto';
import 'reflect-metadata';
import { X509CertificateGenerator } from '@peculiar/x509';
import {
  encodeWorkerKeys,
  generateOhttpKeys,
  HYBRID_KEM,
  toBase64url,
  toHex,
  workerId,
  WORKER_KEYS_MS,
  type OhttpKeys,
} from '../../proto/index.ts';
import { nodeSuite } from '../../proto/node.ts';

/** A worker's keys, one for each role. They live in the agent's memory only and die with it (design §4). */
export interface WorkerKeyring {
  /** The worker keys document, exact bytes: what evidence binds. */
  readonly document: Uint8Array<ArrayBuffer>;
  /** SHA-256 of the document. */
  readonly workerId: string;
  /** One for each KEM on offer. */
  readonly ohttp: readonly OhttpKeys[];
  readonly receipt: CryptoKey;
  readonly tls: { readonly privateKeyPem: string; readonly certificatePem: string };
}

const pem = (label: string, der: ArrayBuffer): string =>
  `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64').replace(/.{64}/g, '$&\n')}\n-----END ${label}-----\n`;

export async function makeWorkerKeys(now: Date): Promise<WorkerKeyring> {
  const notAfter = new Date(now.getTime() + WORKER_KEYS_MS);
  const tls = await makeTlsIdentity(now, notAfter);
  const mandatory = await generateOhttpKeys(1, nodeSuite);
  const hybrid = await generateOhttpKeys(2, nodeSuite, HYBRID_KEM);
  const receipt = await crypto.subtle.generateKey({ name: 'Ed25519' }, false, ['sign', 'verify']);
  const receiptPublic = new Uint8Array(await crypto.subtle.exportKey('raw', receipt.publicKey));
  const document = encodeWorkerKeys({
    format: 'cfn/worker-keys/v1',
    tls: { spki: tls.spki },
    ohttp: { config: toBase64url(mandatory.config), hybrid: toBase64url(hybrid.config) },
    receipt: { publicKey: toBase64url(receiptPublic) },
    notAfter: notAfter.toISOString(),
  });
  return { document, workerId: await workerId(document), ohttp: [mandatory, hybrid], receipt: receipt.privateKey, tls };
}

/** Self-signed: the evidence, not a certificate authority, vouches for the key. */
async function makeTlsIdentity(
  notBefore: Date,
  notAfter: Date,
): Promise<WorkerKeyring['tls'] & { readonly spki: string }> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=cfn worker',
      notBefore: new Date(notBefore.getTime() - 60_000),
      notAfter,
      keys,
      signingAlgorithm: algorithm,
      serialNumber: toHex(crypto.getRandomValues(new Uint8Array(8))),
    },
    crypto,
  );
  const spki = createHash('sha256')
    .update(Buffer.from(await crypto.subtle.exportKey('spki', keys.publicKey)))
    .digest('hex');
  const privateKeyPem = pem('PRIVATE KEY', await crypto.subtle.exportKey('pkcs8', keys.privateKey));
  return { privateKeyPem, certificatePem: certificate.toString('pem'), spki };
}
