import type { Hono } from 'hono';
import { anybody } from './access/guard.ts';
import type { AppContext, AppEnv } from './context.ts';
import { isSealed } from './sealed-type.ts';

/**
 * Pages of any origin may attest and send sealed requests: neither goes by a cookie, so a page reads nothing that its user could not
 * give it. In the open, and on the control plane, the gateway allows nothing: there the answers are the function's, and it may allow
 * other origins itself.
 */
const ALLOWED = {
  'access-control-allow-origin': '*',
  'access-control-expose-headers': 'cfn-request-id, retry-after',
} as const;

const PREFLIGHT = {
  'access-control-allow-origin': '*',
  'access-control-allow-methods': 'GET, POST',
  'access-control-allow-headers':
    'accept, cfn-authorization, cfn-function-version, cfn-worker, content-type, incremental',
  'access-control-max-age': '7200',
} as const;

/** What goes on an answer to this request. */
export const corsFields = (c: AppContext): Readonly<Record<string, string>> =>
  isPublic(c) || isSealed(c.req.header('content-type')) ? ALLOWED : {};

const isPublic = (c: AppContext): boolean => c.req.path.startsWith('/.well-known/');

export function corsRoutes(app: Hono<AppEnv>): void {
  app.use('/.well-known/*', anybody, async (c, next) => {
    if (c.req.method === 'OPTIONS') return new Response(null, { status: 204, headers: PREFLIGHT });
    await next();
    for (const [name, value] of Object.entries(ALLOWED)) c.header(name, value);
    return undefined;
  });
  // A preflight carries no content type, but a sealed request alone names its worker. Any other is for the function to answer.
  app.options('/f/*', anybody, async (c, next) => {
    const fields =
      c.req
        .header('access-control-request-headers')
        ?.toLowerCase()
        .split(/[\s,]+/) ?? [];
    if (fields.includes('cfn-worker')) return new Response(null, { status: 204, headers: PREFLIGHT });
    await next();
    return undefined;
  });
}
