import type { Hono } from 'hono';
import { guard } from '../access/guard.ts';
import { scopeOf } from '../access/roles.ts';
import type { AppEnv, Gateway } from '../context.ts';

/** Sums over receipts, per function. */
export function usageRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.get('/v1/usage', may('usage:read'), async (c) => {
    await gateway.ledger.flush();
    return c.json({ usage: await gateway.store.usage(scopeOf(c.get('caller'))) });
  });
}
