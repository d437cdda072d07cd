import type { Hono } from 'hono';
import { CfnError, parseHour, toHex, utf8 } from '../../proto/index.ts';
import { leafHash } from '../../proto/node.ts';
import { guard } from '../access/guard.ts';
import { scopeOf } from '../access/roles.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { LIST_MAX } from '../limits.ts';

/** The sealed hours of the ledger, for whoever recounts what they are charged. */
export function batchRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.get('/v1/batches', may('usage:read'), async (c) => {
    const after = c.req.query('after');
    const batches = await gateway.store.batches(after === undefined ? -1 : parseHour(after), LIST_MAX);
    return c.json({ batches: batches.map(({ jws }) => jws), more: batches.length === LIST_MAX });
  });

  // All leaves, so that the root can be made again; receipts only to whom they concern.
  app.get('/v1/batches/:hour/blocks/:block', may('usage:read'), async (c) => {
    const scope = scopeOf(c.get('caller'));
    const block = Number(/^\d{1,9}$/.exec(c.req.param('block'))?.[0] ?? NaN);
    const receipts = Number.isNaN(block)
      ? undefined
      : await gateway.batches.block(parseHour(c.req.param('hour')), block);
    if (receipts === undefined) throw new CfnError('CFN_NOT_FOUND', 'there is no such block of a sealed hour');
    const isFor = (tenant: string): boolean => scope === undefined || tenant === scope;
    const leaves = receipts.map(({ tenant, jws }) =>
      isFor(tenant) ? { receipt: jws } : { leaf: toHex(leafHash(utf8(jws))) },
    );
    return c.json({ leaves });
  });
}
