import type { Hono } from 'hono';
import { CfnError } from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX } from '../limits.ts';
import { tenantLimitsSchema } from '../quota/tenant-limits.ts';
import { jsonBody } from './body.ts';

/** What a tenant may use: set by the operator, seen by the tenant. */
export function limitRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.put('/v1/tenants/:tenant/limits', may('limits:write'), async (c) => {
    const tenant = c.req.param('tenant');
    const limits = await jsonBody(c, tenantLimitsSchema, CONTROL_BYTES_MAX);
    await gateway.quotas.set(tenant, limits);
    return c.json({ tenant, limits });
  });

  app.get('/v1/tenants/:tenant/limits', may('limits:read'), async (c) => {
    const tenant = c.req.param('tenant');
    if (!(await gateway.store.hasTenant(tenant))) throw new CfnError('CFN_TENANT_NOT_FOUND', `no tenant ${tenant}`);
    await gateway.ledger.flush();
    return c.json({ tenant, ...(await gateway.quotas.standing(tenant)) });
  });
}
