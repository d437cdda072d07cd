import type { Hono } from 'hono';
import { z } from 'zod';
import { CfnError, nameSchema } from '../../proto/index.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX, TOKEN_SECONDS_MAX } from '../limits.ts';
import { requireRole } from '../tokens.ts';
import { authenticate } from './authentication.ts';
import { jsonBody } from './body.ts';

export const tokenRequestSchema = z.strictObject({
  tenant: nameSchema,
  role: z.literal('tenant'),
  ttlSeconds: z.int().positive().max(TOKEN_SECONDS_MAX),
});

export function tokenRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  app.post('/v1/tokens', async (c) => {
    requireRole(await authenticate(c, gateway), 'operator');
    const { tenant, ttlSeconds } = await jsonBody(c, tokenRequestSchema, CONTROL_BYTES_MAX);
    if (!(await gateway.store.hasTenant(tenant))) throw new CfnError('CFN_TENANT_NOT_FOUND', `no tenant ${tenant}`);
    const token = await gateway.tokens.issue({ role: 'tenant', sub: tenant, tenant }, ttlSeconds);
    return c.json({ token }, 201, { 'cache-control': 'no-store' });
  });
}
