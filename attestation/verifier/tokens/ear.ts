import { equalBytes, utf8 } from '../../../proto/index.ts';
import { TIERS, worstTier, type Tier } from '../../evidence/ar4si.ts';
import { parseEar, type Ear, type EarSubmodule } from '../../evidence/ear.ts';
import { parseJwt } from '../../evidence/jwt.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Findings } from '../findings.ts';
import type { TokenAlgorithm, TokenKeys } from './keys.ts';
import { requireLive, requireNonce, tokenDates, verifyTokenSignature, type TokenDates } from './token.ts';

/** What is expected, or why it is not asked for. */
type Expected<T> = T | { readonly notChecked: string };

export interface EarInput {
  /** The token in compact form. */
  readonly token: string;
  readonly keys: TokenKeys;
  readonly algorithms: readonly TokenAlgorithm[];
  readonly now: Date;
  readonly clockSkewMs?: number;
  readonly issuer: Expected<string>;
  readonly audience: Expected<string>;
  /** The text of `eat_nonce`. Trustee's tokens carry none. */
  readonly nonce: Expected<string>;
  /** Oldest result that is taken, in ms since it was issued; EAR does not require `exp`. */
  readonly ageMsMax: number;
  /** States that are taken; an empty list takes nothing. */
  readonly statuses: readonly Tier[];
  /** Submodules that must be there, such as `cpu0`. Each that is there must have one of the states. */
  readonly submodules: readonly string[];
}

/** {@link Ear}, with its dates in seconds since the epoch. To be relied upon only when no check failed. */
export interface EarClaims extends Ear {
  readonly dates: TokenDates;
}

/**
 * Verifies an attestation result in EAR form, of Veraison, Trustee, or made by `makeEar`.
 *
 * @throws {Refusal} `parse/*` for what cannot be parsed, `evidence/token-claims` when `iat` is missing. All else is in `findings`.
 */
export async function verifyEar(input: EarInput, findings: Findings): Promise<EarClaims> {
  const token = parseJwt(input.token, 'EAR');
  const ear = parseEar(token);
  const dates = tokenDates(token, 'EAR');
  await findings.check('EAR: signature', () => verifyTokenSignature(token, input, 'EAR'));
  await findings.check('EAR: dates', () => requireLive(withEnd(dates, input.ageMsMax), input, 'EAR'));
  await ifExpected(findings, 'EAR: issuer', input.issuer, (issuer) => {
    if (ear.issuer !== issuer)
      refuse('evidence/token-issuer', `EAR: issuer is ${ear.issuer ?? 'missing'}, expected ${issuer}`);
  });
  await ifExpected(findings, 'EAR: audience', input.audience, (audience) => {
    if (!ear.audiences.includes(audience))
      refuse(
        'evidence/token-audience',
        `EAR: it is for ${ear.audiences.join(', ') || 'nobody in particular'}, expected ${audience}`,
      );
  });
  await ifExpected(findings, 'EAR: nonce', input.nonce, (nonce) => requireNonceAmong(ear.nonces, nonce));
  await findings.check('EAR: submodules', () => requireSubmodules(ear.submodules, input.submodules));
  for (const submodule of ear.submodules)
    await findings.check(`EAR: ${submodule.name}`, () => requireStatus(submodule, input.statuses));
  return { ...ear, dates };
}

async function ifExpected<T extends string>(
  findings: Findings,
  check: string,
  expected: Expected<T>,
  run: (expected: T) => void,
): Promise<void> {
  if (typeof expected === 'string') await findings.check(check, () => run(expected));
  else findings.skip(check, expected.notChecked);
}

/** The earlier of its own end and the greatest age. */
function withEnd(dates: TokenDates, ageMsMax: number): TokenDates {
  const oldest = dates.issuedAt + Math.floor(ageMsMax / 1000);
  return { ...dates, expiresAt: Math.min(oldest, dates.expiresAt ?? oldest) };
}

function requireNonceAmong(nonces: readonly string[], nonce: string): void {
  const found = nonces.filter((came) => equalBytes(utf8(came), utf8(nonce)));
  requireNonce(found[0] ?? nonces[0], nonce, 'EAR');
}

function requireSubmodules(came: readonly EarSubmodule[], needed: readonly string[]): void {
  const names = came.map(({ name }) => name);
  const missing = needed.filter((name) => !names.includes(name));
  if (missing.length > 0)
    refuse('evidence/submodule-set', `EAR: ${missing.join(', ')} not among the submodules ${names.join(', ')}`);
}

function requireStatus({ name, status, trustVector, policyId }: EarSubmodule, statuses: readonly Tier[]): void {
  const worst = worstTier(trustVector);
  // draft-ietf-rats-ear §3.2: the status must not be better than any claim of the vector.
  if (status !== 'none' && TIERS.indexOf(worst) > TIERS.indexOf(status))
    refuse('evidence/token-claims', `EAR: ${name} has status ${status}, but its trust vector is ${worst}`);
  if (!statuses.includes(status))
    refuse(
      'evidence/token-result',
      `EAR: ${name} is ${status} under policy ${policyId ?? 'not named'}, expected ${statuses.join(' or ') || 'nothing'}`,
    );
}
