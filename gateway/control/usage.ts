import type { Hono } from 'hono';
import {
  CfnError,
  hourOf,
  hourStart,
  parseHour,
  usageBySchema,
  usageCsv,
  type UsageAnswer,
  type UsageRow,
} from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import { scopeOf } from '../access/roles.ts';
import type { AppContext, AppEnv, Gateway } from '../context.ts';
import { LIST_MAX } from '../limits.ts';
import type { UsageQuery } from '../store/index.ts';

/** Sums over receipts: a tenant's own, and as an owner of models what others used of them; all for the operator. */
export function usageRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  app.get('/v1/usage', may('usage:read'), async (c) => {
    await gateway.ledger.flush();
    const sealed = (await gateway.store.newestBatch())?.hour ?? -1;
    // Where a gateway's clock is behind, receipts are in the hour after the newest that is sealed.
    const endHour = Math.max(hourOf(gateway.now()) + 1, sealed + 2);
    const query = usageQuery(c, endHour, scopeOf(c.get('caller')));
    if (c.req.query('format') === 'csv') {
      return c.body(usageCsv(query.by, await allRows(gateway, query)), 200, {
        'content-type': 'text/csv; charset=utf-8; header=present',
        'content-disposition': `attachment; filename="usage-by-${query.by}.csv"`,
      });
    }
    const usage = await gateway.store.usage(query);
    const answer: UsageAnswer = {
      by: query.by,
      from: hourStart(query.fromHour),
      to: hourStart(query.toHour),
      final: query.toHour <= sealed + 1,
      usage,
      ...(usage.length < LIST_MAX ? {} : { next: usage.at(-1)?.subject }),
    };
    return c.json(answer);
  });
}

/**
 * @param endHour the first that nothing can be in yet
 * @throws {CfnError} `CFN_INPUT_INVALID`
 */
function usageQuery(c: AppContext, endHour: number, tenant: string | undefined): UsageQuery {
  const { by = 'function', from, to, format = 'json', after } = c.req.query();
  const parsed = usageBySchema.safeParse(by);
  if (!parsed.success) throw new CfnError('CFN_INPUT_INVALID', 'by: expected function, tenant or model');
  if (format !== 'json' && format !== 'csv') throw new CfnError('CFN_INPUT_INVALID', 'format: expected json or csv');
  const fromHour = from === undefined ? 0 : parseHour(from);
  const toHour = to === undefined ? Math.max(endHour, fromHour) : parseHour(to);
  if (toHour < fromHour) throw new CfnError('CFN_INPUT_INVALID', 'to is before from');
  return { by: parsed.data, tenant, fromHour, toHour, after, limit: LIST_MAX };
}

async function allRows({ store }: Pick<Gateway, 'store'>, query: UsageQuery): Promise<UsageRow[]> {
  const rows: UsageRow[] = [];
  for (let after = query.after; ; after = rows.at(-1)?.subject) {
    const page = await store.usage({ ...query, after });
    rows.push(...page);
    if (page.length < query.limit) return rows;
  }
}
