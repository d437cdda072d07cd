import { utf8 } from '../../../proto/index.ts';
import type { IntelCollateral, SignedText } from '../../evidence/intel-collateral.ts';
import { parseQeIdentity, parseTcbInfo, type QeIdentity, type TcbInfo } from '../../evidence/intel-tcb.ts';
import { refuse, type Reason } from '../../evidence/reasons.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { requireValidAt, verifyLinks } from '../pki/chain.ts';
import { requireCrlCurrent, requireNotRevoked, verifyCrlSignature } from '../pki/crl.ts';
import { verifyEcdsa } from '../pki/signatures.ts';

declare const verified: unique symbol;

/**
 * Proof that collateral is Intel's: every chain, CRL and signature in it verified, and none of its certificates revoked. Only
 * {@link verifyIntelCollateral} makes one. It says nothing of the time, so that it can be kept; {@link checkCollateralDates} asks
 * for that on each use.
 */
export interface VerifiedIntelCollateral {
  readonly [verified]: true;
  /** SHA-256 of the root that all of it ends at. */
  readonly root: string;
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
  /** CA of the PCK certificates that the PCK CRL speaks of. */
  readonly pckCa: Certificate;
  readonly source: IntelCollateral;
}

const CHECKS = {
  tcbInfoChain: 'TCB info: signing chain',
  qeIdentityChain: 'QE identity: signing chain',
  pckCrlChain: 'PCK CRL: issuer chain',
  rootCrl: 'root CA CRL: signature',
  pckCrl: 'PCK CRL: signature',
  tcbInfo: 'TCB info: signature and content',
  qeIdentity: 'QE identity: signature and content',
  revocation: 'collateral: revocation of its certificates',
} as const;

/** The checks that every {@link VerifiedIntelCollateral} has passed. */
export const COLLATERAL_CHECKS: readonly string[] = Object.values(CHECKS);

/**
 * Verifies all of the collateral that depends neither on the time nor on a quote. Gives nothing when a check failed.
 *
 * @param root SHA-256 of the root certificate, hexadecimal
 */
export async function verifyIntelCollateral(
  source: IntelCollateral,
  root: string,
  findings: Findings,
): Promise<VerifiedIntelCollateral | undefined> {
  const { tcbInfoIssuerChain, qeIdentityIssuerChain, pckCrlIssuerChain, rootCaCrl, pckCrl } = source;
  const [tcbSigner] = tcbInfoIssuerChain;
  const [qeSigner] = qeIdentityIssuerChain;
  const [pckCa] = pckCrlIssuerChain;
  const rootCa = tcbInfoIssuerChain.at(-1);
  if (tcbSigner === undefined || qeSigner === undefined || pckCa === undefined || rootCa === undefined)
    refuse('collateral/missing', 'an issuer chain is empty');

  const [tcbChain, qeChain, pckChain] = await findings.checkAll([
    [CHECKS.tcbInfoChain, () => verifySigner(tcbInfoIssuerChain, tcbSigner, root)],
    [CHECKS.qeIdentityChain, () => verifySigner(qeIdentityIssuerChain, qeSigner, root)],
    [CHECKS.pckCrlChain, () => verifyLinks(pckCrlIssuerChain, { root, what: 'PCK CRL issuer chain', leafIsCa: true })],
  ]);
  if (!tcbChain || !qeChain || !pckChain) {
    // What a key signed that is not shown to be Intel's says nothing.
    for (const name of COLLATERAL_CHECKS.slice(3)) findings.skip(name, 'an issuer chain does not verify');
    return undefined;
  }

  let tcbInfo: TcbInfo | undefined;
  let qeIdentity: QeIdentity | undefined;
  const signed = await findings.checkAll([
    [CHECKS.rootCrl, () => verifyCrlSignature(rootCaCrl, rootCa, 'root CA CRL')],
    [CHECKS.pckCrl, () => verifyCrlSignature(pckCrl, pckCa, 'PCK CRL')],
    [
      CHECKS.tcbInfo,
      async () => {
        await verifyText(source.tcbInfo, tcbSigner, 'collateral/tcb-info-signature', 'TCB info');
        tcbInfo = parseTcbInfo(source.tcbInfo.text);
      },
    ],
    [
      CHECKS.qeIdentity,
      async () => {
        await verifyText(source.qeIdentity, qeSigner, 'collateral/qe-identity-signature', 'QE identity');
        qeIdentity = parseQeIdentity(source.qeIdentity.text);
      },
    ],
  ]);
  if (!signed[0]) {
    findings.skip(CHECKS.revocation, 'the root CA CRL does not verify');
    return undefined;
  }
  const unrevoked = await findings.check(CHECKS.revocation, () => {
    for (const certificate of [tcbSigner, qeSigner, pckCa]) requireNotRevoked(rootCaCrl, certificate, 'root CA CRL');
  });
  if (!signed.every(Boolean) || !unrevoked || tcbInfo === undefined || qeIdentity === undefined) return undefined;
  const value: Omit<VerifiedIntelCollateral, typeof verified> = { root, tcbInfo, qeIdentity, pckCa, source };
  return value as VerifiedIntelCollateral; // the one mint: every check passed
}

/** Everything in the collateral must count at `now`. */
export async function checkCollateralDates(
  { tcbInfo, qeIdentity, source }: VerifiedIntelCollateral,
  now: Date,
  findings: Findings,
): Promise<void> {
  await findings.check('collateral: dates of its certificates', () => {
    const chains = [source.tcbInfoIssuerChain, source.qeIdentityIssuerChain, source.pckCrlIssuerChain];
    for (const certificate of chains.flat()) requireValidAt(certificate, now, certificate.subjectCommonName);
  });
  await findings.check('root CA CRL: dates', () => requireCrlCurrent(source.rootCaCrl, now, 'root CA CRL'));
  await findings.check('PCK CRL: dates', () => requireCrlCurrent(source.pckCrl, now, 'PCK CRL'));
  await findings.check('TCB info: dates', () => requireCurrent(tcbInfo, now, 'TCB info'));
  await findings.check('QE identity: dates', () => requireCurrent(qeIdentity, now, 'QE identity'));
}

/** When the first part of the collateral ends, in ms since the epoch. */
export function collateralEndsMs({ tcbInfo, qeIdentity, source }: VerifiedIntelCollateral): number {
  const chains = [source.tcbInfoIssuerChain, source.qeIdentityIssuerChain, source.pckCrlIssuerChain];
  return Math.min(
    tcbInfo.nextUpdate,
    qeIdentity.nextUpdate,
    source.pckCrl.nextUpdateMs,
    source.rootCaCrl.nextUpdateMs,
    ...chains.flat().map(({ notAfterMs }) => notAfterMs),
  );
}

/** Intel's PCK certificates end at the same root; a platform's key must not sign what counts for all platforms. */
async function verifySigner(chain: readonly Certificate[], signer: Certificate, root: string): Promise<void> {
  await verifyLinks(chain, { root, what: 'TCB signing chain' });
  if (!signer.subjectCommonName.includes('SGX TCB Signing'))
    refuse('certificate/wrong-role', `${signer.subjectCommonName} is not the TCB signing certificate`);
}

async function verifyText(
  { text, signature }: SignedText,
  { publicKey }: Certificate,
  reason: Reason,
  what: string,
): Promise<void> {
  const data = utf8(text);
  if (publicKey.type !== 'ec' || !(await verifyEcdsa(publicKey, 'SHA-256', signature, data)))
    refuse(reason, `the TCB signing key did not sign this ${what}`);
}

function requireCurrent({ issueDate, nextUpdate }: TcbInfo | QeIdentity, now: Date, what: string): void {
  const time = now.getTime();
  // Written so that an invalid date refuses.
  if (!(time >= issueDate)) refuse('collateral/not-yet-valid', `${what} counts from ${iso(issueDate)} on`);
  if (!(time <= nextUpdate)) refuse('collateral/expired', `${what} should have been renewed by ${iso(nextUpdate)}`);
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
