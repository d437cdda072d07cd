import type { MiddlewareHandler } from 'hono';
import { CfnError, toCfnError } from '../../proto/index.ts';
import type { AppContext, AppEnv, Gateway } from '../context.ts';
import { requireAction, requireTenant, scopeOf, type Action } from './roles.ts';

type Handler = MiddlewareHandler<AppEnv>;

const declared = new WeakMap<object, Action | 'anybody'>();

/** What a route's handler was declared with, for the test that no route goes without. */
export const declaredAction = (handler: object): Action | 'anybody' | undefined => declared.get(handler);

/** For routes that ask for no token: public facts, and invocations, where the function's manifest says who may call. */
export const anybody: Handler = (_, next) => next();
declared.set(anybody, 'anybody');

/**
 * Makes what stands before the handler of each route: the caller is known by the bearer token, the role has the action, and a tenant named
 * in the path (`:tenant`) is the caller's own. The handler finds the caller as `c.get('caller')`. What changes something, and what
 * was refused for its scope, is told to the audit.
 */
export function guard(gateway: Pick<Gateway, 'callers' | 'log'>): (action: Action) => Handler {
  return (action) => {
    const handler: Handler = async (c, next) => {
      const caller = await gateway.callers.verify(bearerToken(c.req.header('authorization')));
      c.set('caller', caller);
      try {
        requireAction(caller, action);
        const tenant = c.req.param('tenant');
        if (tenant !== undefined) requireTenant(caller, tenant);
      } catch (refusal) {
        audit(c, gateway, action, toCfnError(refusal).code);
        throw refusal;
      }
      await next();
      const outcome = c.error === undefined ? 'ok' : toCfnError(c.error).code;
      if (!action.endsWith(':read') || outcome === 'CFN_TOKEN_SCOPE') audit(c, gateway, action, outcome);
    };
    declared.set(handler, action);
    return handler;
  };
}

/** @throws {CfnError} `CFN_TOKEN_INVALID` */
export function bearerToken(authorization: string | undefined): string {
  const token = /^Bearer ([A-Za-z0-9._-]+)$/i.exec(authorization ?? '')?.[1];
  if (token === undefined)
    throw new CfnError('CFN_TOKEN_INVALID', 'expected a bearer token in the authorization header');
  return token;
}

const FIELD_CHARACTERS_MAX = 200;

/** Who did what to which thing, and how it ended. Names and ids only; bodies, keys and tokens are never in it. */
function audit(c: AppContext, { log }: Pick<Gateway, 'log'>, action: Action, outcome: string): void {
  const caller = c.get('caller');
  log('audit', {
    who: caller.sub.slice(0, FIELD_CHARACTERS_MAX),
    role: caller.role,
    ...(scopeOf(caller) === undefined ? {} : { tenant: scopeOf(caller) ?? '' }),
    action,
    subject: (c.get('subject') ?? c.req.path).slice(0, FIELD_CHARACTERS_MAX),
    outcome,
    request: c.get('requestId'),
  });
}
