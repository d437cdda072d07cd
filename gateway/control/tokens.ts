import type { Hono } from 'hono';
import { z } from 'zod';
import { CfnError, nameSchema } from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX, TOKEN_SECONDS_MAX } from '../limits.ts';
import { tenantRoleSchema } from '../tokens.ts';
import { jsonBody } from './body.ts';

export const tokenRequestSchema = z.strictObject({
  tenant: nameSchema,
  role: tenantRoleSchema,
  ttlSeconds: z.int().positive().max(TOKEN_SECONDS_MAX),
});

export function tokenRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.post('/v1/tokens', may('tokens:write'), async (c) => {
    const { tenant, role, ttlSeconds } = await jsonBody(c, tokenRequestSchema, CONTROL_BYTES_MAX);
    if (!(await gateway.store.hasTenant(tenant))) throw new CfnError('CFN_TENANT_NOT_FOUND', `no tenant ${tenant}`);
    c.set('subject', `${tenant} ${role}`);
    const token = await gateway.tokens.issue({ role, sub: `${role} of ${tenant}`, tenant }, ttlSeconds);
    return c.json({ token }, 201, { 'cache-control': 'no-store' });
  });
}
