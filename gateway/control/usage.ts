import type { Hono } from 'hono';
import type { AppEnv, Gateway } from '../context.ts';
import { requireRole } from '../tokens.ts';
import { authenticate } from './authentication.ts';

/** Sums over receipts, per function. */
export function usageRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  app.get('/v1/usage', async (c) => {
    const caller = await authenticate(c, gateway);
    requireRole(caller, 'operator', 'tenant');
    await gateway.ledger.flush();
    return c.json({ usage: await gateway.store.usage(caller.role === 'tenant' ? caller.tenant : undefined) });
  });
}
