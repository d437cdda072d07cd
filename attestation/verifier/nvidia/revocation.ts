import { equalBytes } from '../../../proto/index.ts';
import { findRevoked, type Crl } from '../../evidence/crl.ts';
import type { OcspResponse } from '../../evidence/ocsp.ts';
import { Refusal, refuse, type Reason } from '../../evidence/reasons.ts';
import type { Certificate } from '../../evidence/x509.ts';
import type { Findings } from '../findings.ts';
import { requireNotRevoked, verifyCrl } from '../pki/crl.ts';
import { mapKey } from '../pki/map-key.ts';
import { findOcspAnswer, saysRevoked, verifyOcsp } from '../pki/ocsp.ts';
import { settled } from '../pki/settled.ts';

export interface RevocationOptions {
  readonly ocsp: readonly OcspResponse[];
  readonly crls: readonly Crl[];
  /** What it means when nothing answers for a certificate. What is supplied is checked either way. */
  readonly demand: 'required' | { readonly whenSupplied: string };
  /** Certificates on hold count as good, which the policy says. */
  readonly holdTolerated: boolean;
  readonly now: Date;
}

/** Looks certificates up in what was supplied. One object serves all devices and RIMs, so that what answers for none shows up. */
export interface Revocation {
  /**
   * Checks certificates of a chain: all but the root and, for devices, the leaf, for which NVIDIA runs no revocation.
   *
   * @param from depth of the first one
   */
  check(chain: readonly Certificate[], from: 0 | 1, what: string, findings: Findings): Promise<void>;
  /** Refuses what was supplied and answers for no certificate that was looked up. */
  finish(findings: Findings): Promise<void>;
}

export function openRevocation(options: RevocationOptions): Revocation {
  const used = new Set<OcspResponse | Crl>();
  /** By certificate and issuer: devices and RIMs share intermediates. */
  const outcomes = new Map<string, Promise<void>>();
  return {
    check: (chain, from, what, findings) => checkChain(chain, from, what, options, { used, outcomes }, findings),
    async finish(findings) {
      const unused = [...options.ocsp, ...options.crls].filter((item) => !used.has(item)).length;
      if (unused === 0) return;
      await findings.check('revocation data', () =>
        refuse(
          'revocation/wrong-issuer',
          `${unused} OCSP responses or CRLs answer for no certificate of this evidence`,
        ),
      );
    },
  };
}

async function checkChain(
  chain: readonly Certificate[],
  from: 0 | 1,
  what: string,
  options: RevocationOptions,
  { used, outcomes }: { readonly used: Set<OcspResponse | Crl>; readonly outcomes: Map<string, Promise<void>> },
  findings: Findings,
): Promise<void> {
  const missing: string[] = [];
  for (const [depth, certificate] of chain.slice(0, -1).entries()) {
    const issuer = chain[depth + 1];
    if (depth < from || issuer === undefined) continue;
    const answers = await findAnswers(certificate, issuer, options);
    for (const answer of answers) used.add(answer);
    if (answers.length === 0) {
      missing.push(certificate.subjectCommonName);
      continue;
    }
    const key = mapKey(certificate.der) + mapKey(issuer.der);
    const outcome = outcomes.get(key) ?? settled(requireGood(certificate, issuer, answers, options));
    outcomes.set(key, outcome);
    await findings.check(`${what} revocation of ${certificate.subjectCommonName}`, () => outcome);
  }
  if (missing.length === 0) return;
  const list = missing.join(', ');
  if (options.demand === 'required')
    await findings.check(`${what} revocation`, () =>
      refuse('revocation/missing', `${what}: no OCSP response or CRL for ${list}`),
    );
  else findings.skip(`${what} revocation of ${list}`, options.demand.whenSupplied);
}

async function findAnswers(certificate: Certificate, issuer: Certificate, { ocsp, crls }: RevocationOptions) {
  const answers: Answer[] = crls.filter((crl) => equalBytes(crl.issuer, certificate.issuer));
  for (const response of ocsp)
    if ((await findOcspAnswer(response, certificate, issuer)) !== undefined) answers.push(response);
  return answers;
}

type Answer = OcspResponse | Crl;

/**
 * Every answer must be good, so that one that says revoked is not outvoted. Of OCSP answers, and of CRLs, one that has ended or does not
 * count yet is passed over where another counts now, unless it says revoked.
 */
async function requireGood(
  certificate: Certificate,
  issuer: Certificate,
  answers: readonly Answer[],
  options: RevocationOptions,
): Promise<void> {
  const isOcsp = (answer: Answer): answer is OcspResponse => 'answers' in answer;
  for (const kind of [answers.filter(isOcsp), answers.filter((answer) => !isOcsp(answer))]) {
    const outdated: Refusal[] = [];
    for (const answer of kind) {
      try {
        await requireGoodAnswer(certificate, issuer, answer, options);
      } catch (error) {
        if (!(error instanceof Refusal) || !OUTDATED.includes(error.reason)) throw error;
        await requireSilent(certificate, issuer, answer); // its signature holds: dates are looked at after that
        outdated.push(error);
      }
    }
    const [first] = outdated;
    if (first !== undefined && outdated.length === kind.length) throw first;
  }
}

const OUTDATED: readonly Reason[] = ['revocation/stale', 'revocation/not-yet-valid'];

async function requireGoodAnswer(
  certificate: Certificate,
  issuer: Certificate,
  answer: Answer,
  { now, holdTolerated }: RevocationOptions,
): Promise<void> {
  if ('answers' in answer) return verifyOcsp(answer, certificate, issuer, { now, what: 'revocation', holdTolerated });
  const name = `CRL of ${issuer.subjectCommonName}`;
  await verifyCrl(answer, issuer, now, name);
  const onHold = findRevoked(answer, certificate.serial)?.onHold === true;
  if (!(onHold && holdTolerated)) requireNotRevoked(answer, certificate, name);
}

/** Revocation is for good, a hold is not. */
async function requireSilent(certificate: Certificate, issuer: Certificate, answer: Answer): Promise<void> {
  const isRevoked =
    'answers' in answer
      ? saysRevoked(await findOcspAnswer(answer, certificate, issuer))
      : findRevoked(answer, certificate.serial)?.onHold === false;
  if (isRevoked)
    refuse('certificate/revoked', `${certificate.subjectCommonName} was revoked, as an earlier answer says`);
}
