import type { Hono } from 'hono';
import { z } from 'zod';
import { nameSchema } from '../../proto/index.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX } from '../limits.ts';
import { requireRole } from '../tokens.ts';
import { authenticate } from './authentication.ts';
import { jsonBody } from './body.ts';

export const tenantRequestSchema = z.strictObject({ name: nameSchema });

export function tenantRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  app.post('/v1/tenants', async (c) => {
    requireRole(await authenticate(c, gateway), 'operator');
    const { name } = await jsonBody(c, tenantRequestSchema, CONTROL_BYTES_MAX);
    const tenant = { name, createdAt: gateway.now().toISOString() };
    await gateway.store.addTenant(tenant);
    return c.json(tenant, 201);
  });
}
