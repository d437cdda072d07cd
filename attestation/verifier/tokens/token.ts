import { compactVerify, errors } from 'jose';
import { equalBytes, utf8 } from '../../../proto/index.ts';
import type { Jwt } from '../../evidence/jwt.ts';
import { refuse } from '../../evidence/reasons.ts';
import { keyOf, type TokenAlgorithm, type TokenKeys } from './keys.ts';

/** What a relying party configures about any token. */
export interface TokenTrust {
  readonly keys: TokenKeys;
  readonly algorithms: readonly TokenAlgorithm[];
  readonly now: Date;
  /** How far the issuer's clock may be off in either direction, in ms. 0 when left out. */
  readonly clockSkewMs?: number;
}

/**
 * Verifies a token's signature, with an algorithm and a key that the configuration fixes. jose does the signature alone: its parser
 * takes base64 with white space and non-zero trailing bits, the last of two equal members, and stops at the first wrong claim, so
 * parsing is `parseJwt`'s and each claim has a check of its own.
 *
 * @throws {Refusal} `evidence/token-algorithm`, `evidence/token-kid-unknown`, `evidence/token-signature`, `certificate/*`
 */
export async function verifyTokenSignature(token: Jwt, trust: TokenTrust, what: string): Promise<void> {
  const algorithm = trust.algorithms.find((name) => name === token.algorithm);
  if (algorithm === undefined)
    refuse(
      'evidence/token-algorithm',
      `${what}: algorithm ${token.algorithm.slice(0, 32)}, expected ${trust.algorithms.join(' or ')}`,
    );
  const key = await keyOf(token, trust.keys, { algorithm, now: trust.now, what });
  try {
    await compactVerify(token.text, key, { algorithms: [algorithm] });
  } catch (cause) {
    if (cause instanceof errors.JOSEError || cause instanceof TypeError)
      refuse('evidence/token-signature', `${what}: the signature does not verify`, { cause });
    throw cause;
  }
}

/** Seconds since the epoch, as tokens count (RFC 7519 §2, NumericDate); whole ones only. */
export interface TokenDates {
  readonly issuedAt: number;
  readonly notBefore: number | undefined;
  readonly expiresAt: number | undefined;
}

/**
 * @throws {Refusal} `evidence/token-claims` when `iat` is missing, or a date is not a whole number.
 */
export function tokenDates({ claims }: Jwt, what: string): TokenDates {
  const date = (name: 'iat' | 'nbf' | 'exp'): number | undefined => {
    const value = Object.hasOwn(claims, name) ? claims[name] : undefined;
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    return refuse('evidence/token-claims', `${what}: ${name} is not a whole number of seconds`);
  };
  const issuedAt = date('iat') ?? refuse('evidence/token-claims', `${what}: iat is missing`);
  return { issuedAt, notBefore: date('nbf'), expiresAt: date('exp') };
}

/**
 * Checks the dates at `now`: nothing begins later, and the end (`exp`, or what stands in for it) is still to come (RFC 7519 §4.1.4).
 *
 * @throws {Refusal} `evidence/token-not-yet-valid`, `evidence/token-expired`, `evidence/token-claims`
 */
export function requireLive(
  { issuedAt, notBefore, expiresAt }: TokenDates,
  { now, clockSkewMs = 0 }: TokenTrust,
  what: string,
): void {
  const time = now.getTime();
  const begins = Math.max(issuedAt, notBefore ?? issuedAt);
  const ends = expiresAt ?? refuse('evidence/token-claims', `${what}: exp is missing`);
  if (ends <= begins) refuse('evidence/token-claims', `${what}: it ends before it begins`);
  // Written so that an invalid date refuses.
  if (!(begins * 1000 <= time + clockSkewMs))
    refuse('evidence/token-not-yet-valid', `${what}: not valid before ${isoSeconds(begins)}`);
  if (!(time - clockSkewMs < ends * 1000)) refuse('evidence/token-expired', `${what}: expired ${isoSeconds(ends)}`);
}

/**
 * @throws {Refusal} `evidence/token-issuer`
 */
export function requireIssuer({ claims }: Jwt, issuer: string, what: string): void {
  const { iss } = claims;
  if (iss !== issuer) refuse('evidence/token-issuer', `${what}: issuer is ${shown(iss)}, expected ${issuer}`);
}

/**
 * Compares the nonce that a token names (`eat_nonce`) with the one that was sent, in constant time.
 *
 * @throws {Refusal} `binding/nonce-empty`, `binding/nonce-mismatch`
 */
export function requireNonce(came: unknown, nonce: string, what: string): void {
  if (nonce === '' || came === undefined || came === null || came === '')
    refuse('binding/nonce-empty', `${what}: the nonce is empty`);
  if (typeof came !== 'string' || !equalBytes(utf8(came), utf8(nonce)))
    refuse('binding/nonce-mismatch', `${what}: eat_nonce is ${shown(came)}, expected ${nonce}`);
}

/** A claim for a message, cut short. */
export function shown(value: unknown): string {
  const text = value === undefined ? 'missing' : JSON.stringify(value);
  return text.length > 120 ? `${text.slice(0, 120)}…` : text;
}

/** Times beyond what Date can hold are shown as their number. */
function isoSeconds(seconds: number): string {
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime()) ? `at ${seconds} s` : date.toISOString();
}
