import { createHash, timingSafeEqual } from 'node:crypto';
import { generateKeyPair, SignJWT } from 'jose';
import { CfnError, type KbsHash, type TeePubkey } from '../../proto/index.ts';
import type { Attested } from './attest.ts';
import { fairMap } from './fair-map.ts';
import { KBS_SESSION_MS, KBS_SESSIONS_MAX } from '../limits.ts';

/** A client between its challenge and its evidence. */
export interface OpenSession {
  /** 32 random bytes, base64. */
  readonly nonce: string;
  /** The kind that the client says it is. */
  readonly tee: string;
  readonly hash: KbsHash;
  /** In whose namespace it asks, which there is; `undefined`: nobody's. */
  readonly owner: string | undefined;
}

/** A client whose evidence was accepted, for as long as its token lives. */
export interface AttestedSession extends Attested {
  readonly token: string;
  readonly teePubkey: TeePubkey;
  readonly expiresAt: number;
}

export interface Sessions {
  /** @returns the session's id, 32 hexadecimal digits */
  open(session: Omit<OpenSession, 'nonce'>): {
    readonly id: string;
    readonly nonce: string;
    readonly expiresAt: number;
  };
  /**
   * Takes an open session's nonce, which is used up with it, whatever becomes of the evidence; or the attested session of that id, which
   * is given its first token again.
   *
   * @throws {CfnError} `CFN_CHALLENGE_INVALID` when there is none: unknown, used, dropped or too old
   */
  take(id: string): OpenSession | AttestedSession;
  /** The session lives on from here, with a token. */
  attested(id: string, teePubkey: TeePubkey, attested: Attested): Promise<AttestedSession>;
  /** @throws {CfnError} `CFN_CHALLENGE_INVALID` */
  ofCookie(id: string): AttestedSession;
  /** @throws {CfnError} `CFN_CHALLENGE_INVALID` */
  ofToken(token: string): AttestedSession;
}

/**
 * Sessions live in memory only: a restart forgets them, and clients attest anew. Bounded: the oldest is dropped of the namespace that has
 * the most, since where an owner accepts evidence that nobody signed, anybody can have as many as they like. Strangers, who can open as
 * many, drop none that attested.
 */
export function openSessions(deps: {
  readonly now: () => Date;
  readonly randomBytes: (length: number) => Uint8Array;
}): Sessions {
  const open = fairMap<OpenSession & { readonly expiresAt: number }>(KBS_SESSIONS_MAX);
  const attested = fairMap<AttestedSession>(KBS_SESSIONS_MAX);
  const ids = new Map<string, string>();
  // Tokens are looked up here, and believed for nothing that they say; the key tells them from what others make.
  const signing = generateKeyPair('ES256');
  signing.catch(() => undefined);

  function live(id: string | undefined): AttestedSession {
    const session = id === undefined ? undefined : attested.get(id);
    if (session === undefined || deps.now().getTime() >= session.expiresAt)
      throw new CfnError('CFN_CHALLENGE_INVALID', 'the session is unknown, or has ended; attest again');
    return session;
  }
  return {
    open(session) {
      const id = Buffer.from(deps.randomBytes(16)).toString('hex');
      const nonce = Buffer.from(deps.randomBytes(32)).toString('base64');
      const expiresAt = deps.now().getTime() + KBS_SESSION_MS;
      open.add(id, session.owner ?? '', { ...session, nonce, expiresAt });
      return { id, nonce, expiresAt };
    },
    take(id) {
      if (attested.get(id) !== undefined) return live(id);
      const session = open.get(id);
      open.delete(id);
      if (session === undefined || deps.now().getTime() >= session.expiresAt)
        throw new CfnError(
          'CFN_CHALLENGE_INVALID',
          'the session is unknown, used, or too old; ask for another challenge',
        );
      return session;
    },
    async attested(id, teePubkey, result) {
      const issuedAt = Math.floor(deps.now().getTime() / 1000);
      const { tee, policy } = result;
      const token = await new SignJWT({ tee, policy, 'tee-pubkey': teePubkey })
        .setProtectedHeader({ alg: 'ES256', typ: 'JWT' })
        .setIssuer('cfn-kms')
        .setIssuedAt(issuedAt)
        .setNotBefore(issuedAt)
        .setExpirationTime(issuedAt + KBS_SESSION_MS / 1000)
        .setJti(Buffer.from(deps.randomBytes(16)).toString('hex'))
        .sign((await signing).privateKey);
      const session = { ...result, token, teePubkey, expiresAt: (issuedAt + KBS_SESSION_MS / 1000) * 1000 };
      const dropped = attested.add(id, result.owner, session);
      if (dropped !== undefined) ids.delete(digestOf(dropped.token));
      ids.set(digestOf(token), id);
      return session;
    },
    ofCookie: (id) => live(id),
    ofToken: (token) => live(ids.get(digestOf(token))),
  };
}

const digestOf = (token: string): string => createHash('sha256').update(token).digest('hex');

/** Compares what a client says of its nonce with what it was given. @throws {CfnError} `CFN_NONCE_MISMATCH` */
export function requireNonce(session: OpenSession, nonce: string): void {
  const [given, said] = [Buffer.from(session.nonce), Buffer.from(nonce)];
  if (given.length !== said.length || !timingSafeEqual(given, said))
    throw new CfnError('CFN_NONCE_MISMATCH', 'the nonce is not the one of this session');
}
