import { CfnError } from '../../proto/index.ts';
import type { Tokens } from '../tokens.ts';
import { isApiKey, type ApiKeys } from './api-keys.ts';
import type { Issuers } from './issuers.ts';
import type { Caller } from './roles.ts';

/** Finds who calls by what they bring: an API key, a token of a configured issuer, or one of this gateway. */
export interface Callers {
  /** @throws {CfnError} `CFN_TOKEN_INVALID`; `CFN_STORE_FAILED`, `CFN_ISSUER_UNREACHABLE` while that cannot be known */
  verify(bearer: string): Promise<Caller>;
}

export function callers(deps: {
  readonly tokens: Pick<Tokens, 'verify'>;
  readonly keys: Pick<ApiKeys, 'verify'>;
  readonly issuers: Issuers;
}): Callers {
  return {
    async verify(bearer) {
      if (bearer.length > BEARER_CHARACTERS_MAX)
        throw new CfnError('CFN_TOKEN_INVALID', `a token has at most ${BEARER_CHARACTERS_MAX} characters`);
      if (isApiKey(bearer)) return deps.keys.verify(bearer);
      return (await deps.issuers.verify(bearer)) ?? deps.tokens.verify(bearer);
    },
  };
}

/** Of identity providers, tokens with many groups have a few thousand. */
const BEARER_CHARACTERS_MAX = 8192;
