import type { Hono } from 'hono';
import { z } from 'zod';
import { nameSchema } from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX } from '../limits.ts';
import { jsonBody } from './body.ts';

export const tenantRequestSchema = z.strictObject({ name: nameSchema });

export function tenantRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.post('/v1/tenants', may('tenants:write'), async (c) => {
    const { name } = await jsonBody(c, tenantRequestSchema, CONTROL_BYTES_MAX);
    c.set('subject', name);
    const tenant = { name, createdAt: gateway.now().toISOString() };
    await gateway.store.addTenant(tenant);
    return c.json(tenant, 201);
  });

  app.get('/v1/tenants', may('tenants:read'), async (c) => c.json({ tenants: await gateway.store.tenants() }));
}
