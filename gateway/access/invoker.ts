import type { FunctionManifest } from '../../proto/index.ts';
import type { AppContext, Gateway } from '../context.ts';
import { bearerToken } from './guard.ts';
import { requireAction, requireTenant } from './roles.ts';

/** The field that carries a token to the gateway alone, as `cfn-` fields go no further, and leaves `authorization` to the function. */
const OWN_FIELD = 'cfn-authorization';

/**
 * Where a function demands its callers' tokens, the caller must hold one of the function's tenant with a role that may invoke. A token is taken
 * from `cfn-authorization`, or else from `authorization`.
 *
 * @returns the field that held it: the function, which is not the token's owner, must not see it
 * @throws {CfnError} `CFN_TOKEN_INVALID`, `CFN_TOKEN_SCOPE`, or what {@link Callers.verify} throws
 */
export async function demandInvoker(
  c: AppContext,
  { callers }: Pick<Gateway, 'callers'>,
  { tenant, caller: { auth } }: FunctionManifest,
): Promise<string | undefined> {
  if (auth === undefined) return undefined;
  const own = c.req.header(OWN_FIELD);
  const caller = await callers.verify(bearerToken(own ?? c.req.header('authorization')));
  requireAction(caller, 'functions:invoke');
  requireTenant(caller, tenant);
  return own === undefined ? 'authorization' : OWN_FIELD;
}
