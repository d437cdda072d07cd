import { CHALLENGE_MS, CHALLENGES_MAX, CfnError, toBase64url } from '../proto/index.ts';

export interface Challenges {
  /** A fresh challenge: 32 random bytes, base64url. */
  issue(): { readonly challenge: string; readonly expiresAt: string };
  /**
   * Uses a challenge up, whatever becomes of the call.
   *
   * @throws {CfnError} `CFN_CHALLENGE_INVALID` when it is unknown, used, dropped or too old
   */
  take(challenge: string): void;
}

/** Challenges live in memory only: a restart forgets them, and workers ask again. Bounded; the oldest is dropped. */
export function openChallenges(deps: {
  readonly now: () => Date;
  readonly randomBytes: (length: number) => Uint8Array;
}): Challenges {
  /** Challenge → when it expires, in ms. A Map keeps the order of insertion, so the oldest comes first. */
  const open = new Map<string, number>();

  return {
    issue() {
      if (open.size >= CHALLENGES_MAX)
        for (const oldest of open.keys()) {
          open.delete(oldest);
          break;
        }
      const challenge = toBase64url(deps.randomBytes(32));
      const expiresAt = deps.now().getTime() + CHALLENGE_MS;
      open.set(challenge, expiresAt);
      return { challenge, expiresAt: new Date(expiresAt).toISOString() };
    },
    take(challenge) {
      const expiresAt = open.get(challenge);
      open.delete(challenge);
      if (expiresAt === undefined || deps.now().getTime() >= expiresAt) {
        throw new CfnError('CFN_CHALLENGE_INVALID', `the challenge is unknown, used, or over ${CHALLENGE_MS} ms old`);
      }
    },
  };
}
