import { CfnError } from '../../proto/index.ts';
import type { AppContext, Gateway } from '../context.ts';
import type { Caller } from '../tokens.ts';

/** The caller that the bearer token names. @throws {CfnError} `CFN_TOKEN_INVALID` */
export async function authenticate(c: AppContext, { tokens }: Pick<Gateway, 'tokens'>): Promise<Caller> {
  const match = /^Bearer ([A-Za-z0-9._-]+)$/i.exec(c.req.header('authorization') ?? '');
  if (match?.[1] === undefined)
    throw new CfnError('CFN_TOKEN_INVALID', 'expected a bearer token in the authorization header');
  return tokens.verify(match[1]);
}
