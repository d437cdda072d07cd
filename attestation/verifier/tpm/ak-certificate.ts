import { equalBytes, sha256Hex, toHex } from '../../../proto/index.ts';
import type { PublicKey } from '../../evidence/algorithms.ts';
import { parseGceInstance, type GceInstance } from '../../evidence/gce-instance.ts';
import type { Crl } from '../../evidence/crl.ts';
import { DER, soleSequence } from '../../evidence/der.ts';
import { isFill } from '../../evidence/padding.ts';
import { refuse } from '../../evidence/reasons.ts';
import { KEY_USAGE_DIGITAL_SIGNATURE, parseCertificate, type Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { verifyChain } from '../pki/chain.ts';
import { requireNotRevoked, verifyCrl } from '../pki/crl.ts';
import { AK_ROOTS } from '../trust-anchors.ts';
import type { NotChecked } from './quote.ts';

export interface AkCertificateInput {
  readonly certificate: Certificate;
  /** From the issuer of `certificate` up to the root, which is the last. */
  readonly issuers: readonly Certificate[];
  /** The key that signed the quote. */
  readonly attestationKey: PublicKey;
  readonly now: Date;
  /** Of the CAs that publish one: those of the end-entity certificates do not. */
  readonly revocation: readonly Crl[] | NotChecked;
  /** SHA-256 of each root's DER, by its operator. The default is the pinned ones. */
  readonly roots?: Readonly<Record<string, string>>;
}

export interface AkCertificateClaims {
  /** Operator of the root, such as `google`; `undefined` for another root, which is refused. */
  readonly operator: string | undefined;
  /** Azure's end in `ConfidentialVM.Azure.windows.net` for confidential VMs. */
  readonly subject: string;
  readonly serial: string;
  readonly gceInstance: GceInstance | undefined;
}

const OID = { extendedKeyUsage: '2.5.29.37', gceInstance: '1.3.6.1.4.1.11129.2.1.21' };
/** tcg-kp-AIKCertificate (TCG Credential Profile §3.5). */
const AK_CERTIFICATE = '2.23.133.8.3';

/**
 * Parses an attestation key's certificate as it is read from a TPM's non-volatile storage: DER, and fill up to the size of the
 * storage.
 *
 * @throws {Refusal} `parse/leftover` for anything else behind it, and those of parseCertificate
 */
export function parseAkCertificate(bytes: Uint8Array): Certificate {
  const length = derLength(bytes);
  if (!isFill(bytes.subarray(length)))
    refuse('parse/leftover', 'the attestation key certificate goes on after its end');
  return parseCertificate(bytes.subarray(0, length));
}

/** Length of the SEQUENCE that the bytes start with; all of them when it cannot be told, so that the parser says why. */
function derLength(bytes: Uint8Array): number {
  const [tag, first = 0, high = 0, low = 0] = bytes;
  const length =
    first < 0x80 ? 2 + first : first === 0x81 ? 3 + high : first === 0x82 ? 4 + high * 256 + low : Infinity;
  return tag === DER.sequence ? Math.min(length, bytes.length) : bytes.length;
}

/**
 * Verifies that the operator of a cloud vouches for an attestation key: it is one of its virtual TPMs. That the VM is a confidential
 * one does not follow.
 */
export async function verifyAkCertificate(input: AkCertificateInput, findings: Findings): Promise<AkCertificateClaims> {
  const { certificate, issuers, attestationKey, now, roots = AK_ROOTS } = input;
  const chain = [certificate, ...issuers];
  const rootDigest = await sha256Hex((chain.at(-1) ?? certificate).der);
  const operator = Object.entries(roots).find(([, digest]) => digest === rootDigest)?.[0];
  const isChainGood = await findings.check('AK certificate chain', async () => {
    if (operator === undefined)
      refuse('certificate/untrusted-root', 'the AK certificate chain ends at a root that is not pinned');
    await verifyChain(chain, { root: rootDigest, now, what: 'AK certificate chain' });
  });
  await checkRevocation(chain, isChainGood, input, findings);
  await findings.check('AK certificate purpose', () => requireAkPurpose(certificate));
  await findings.check('AK certificate key', () => {
    if (!equalBytes(certificate.publicKey.spki, attestationKey.spki))
      refuse(
        'evidence/attestation-key-binding',
        'the certificate is of another key than the one that signed the quote',
      );
  });
  const instance = certificate.extensions.get(OID.gceInstance);
  return {
    operator,
    subject: certificate.subjectCommonName,
    serial: toHex(certificate.serial),
    gceInstance: instance === undefined ? undefined : parseGceInstance(instance),
  };
}

async function checkRevocation(
  chain: readonly Certificate[],
  isChainGood: boolean,
  { revocation, now }: AkCertificateInput,
  findings: Findings,
): Promise<void> {
  if ('notChecked' in revocation) return findings.skip('AK certificate revocation', revocation.notChecked);
  if (!isChainGood) return findings.skip('AK certificate revocation', 'the chain is not verified');
  for (const [depth, certificate] of chain.slice(0, -1).entries()) {
    const name = `revocation of ${certificate.subjectCommonName}`;
    const issuer = chain[depth + 1] ?? certificate;
    const crl = revocation.find((list) => equalBytes(list.issuer, issuer.subject));
    if (crl === undefined && depth === 0) {
      findings.skip(name, 'no CRL of its issuer was given, and the clouds publish none');
      continue;
    }
    await findings.check(name, async () => {
      if (crl === undefined) refuse('revocation/missing', `no CRL of ${issuer.subjectCommonName} was given`);
      await verifyCrl(crl, issuer, now, 'AK CRL');
      requireNotRevoked(crl, certificate, 'AK CRL');
    });
  }
}

/** The same CAs issue certificates of endorsement keys, which decrypt. */
function requireAkPurpose({ keyUsage, extensions }: Certificate): void {
  if (keyUsage === undefined || (keyUsage & KEY_USAGE_DIGITAL_SIGNATURE) === 0)
    refuse('certificate/wrong-role', 'the certificate is not of a signing key');
  const value = extensions.get(OID.extendedKeyUsage);
  if (value === undefined) return; // Google's have none.
  const usages = soleSequence(value, 'extended key usage');
  const found: string[] = [];
  while (!usages.done) found.push(usages.oid('key purpose'));
  if (!found.includes(AK_CERTIFICATE))
    refuse('certificate/wrong-role', `the certificate is for ${found.join(', ')}, expected an attestation key's`);
}
