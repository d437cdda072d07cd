import { CfnError, hourOf, type Receipt, type UsageRow } from '../../../proto/index.ts';
import type { ReceiptUsage } from '../receipt-usage.ts';
import type { ReceiptStore, UsageQuery } from '../receipts.ts';
import { listed, type RedisDatabase } from './database.ts';

const COUNTED = ['requests', 'failed', 'engineCalls', 'engineMicroseconds'] as const;
const OF_REQUESTS = ['cpuMicroseconds', 'requestBytes', 'responseBytes', 'egressBytes'] as const;
const COLUMNS = { function: [...COUNTED, ...OF_REQUESTS], tenant: [...COUNTED, ...OF_REQUESTS], model: COUNTED };

/** Hours that are asked for at once. */
const HOURS_AT_ONCE = 48;

interface Row {
  /** `function`, `tenant`, `model`, or `model:{tenant}`: what that tenant used, or owns. */
  readonly table: string;
  readonly subject: string;
  readonly counts: Readonly<Record<string, number>>;
}

/** What a receipt adds to, in its hour. Counts of 0 are left out. */
export function usageRows({ tenant, name }: Receipt['function'], used: ReceiptUsage): Row[] {
  const { models, ...whole } = used;
  const counts = withoutZeros({ requests: 1, ...whole });
  return [
    { table: 'function', subject: tenant === '' ? '' : `${tenant}/${name}`, counts },
    { table: 'tenant', subject: tenant, counts },
    ...models.flatMap(({ model, engineCalls, engineMicroseconds }) => {
      const ofModel = withoutZeros({ requests: 1, failed: used.failed, engineCalls, engineMicroseconds });
      const concerned = new Set([tenant, model.slice(0, model.indexOf('/'))]);
      const tables = ['model', ...[...concerned].map((it) => `model:${it}`)];
      return tables.map((table) => ({ table, subject: model, counts: ofModel }));
    }),
  ];
}

/** `usage:subjects:{table}:{hour}`: in order; `usage:sums:{table}:{hour}`: a hash of `subject column` and integers. */
export function redisUsage(database: RedisDatabase): Pick<ReceiptStore, 'usage' | 'usedSince'> {
  const { key, use } = database;

  /** One command of each hour; none of them is long, so others are served in between. */
  async function eachHour<T>(hours: readonly string[], work: (hour: string) => Promise<T>): Promise<T[]> {
    const done: T[] = [];
    for (let at = 0; at < hours.length; at += HOURS_AT_ONCE)
      done.push(...(await Promise.all(hours.slice(at, at + HOURS_AT_ONCE).map(work))));
    return done;
  }

  const store: Pick<ReceiptStore, 'usage' | 'usedSince'> = {
    async usage(query) {
      const { by, tenant, fromHour, toHour, limit } = query;
      const table = by === 'model' && tenant !== undefined ? `model:${tenant}` : by;
      const hours = await use((client) => client.zRangeByScore(key('hours'), fromHour, `(${toHour}`));
      const found = await eachHour(hours, (hour) =>
        listed(database, `usage:subjects:${table}:${hour}`, limit, rangeOf(query)),
      );
      const subjects = [...new Set(found.flat())].toSorted((a, b) => (a < b ? -1 : 1)).slice(0, limit);
      if (subjects.length === 0) return [];
      const columns = COLUMNS[by];
      const fields = subjects.flatMap((subject) => columns.map((name) => `${subject} ${name}`));
      const sums = fields.map(() => 0);
      await eachHour(hours, async (hour) => {
        const values = await use((client) => client.hmGet(key(`usage:sums:${table}:${hour}`), fields));
        values.forEach((value, i) => (sums[i] = exact((sums[i] ?? 0) + Number(value ?? 0))));
      });
      return subjects.map((subject, row) => {
        const counts = columns.map((name, i) => [name, sums[row * columns.length + i] ?? 0]);
        return { subject, ...(Object.fromEntries(counts) as Omit<UsageRow, 'subject'>) };
      });
    },
    async usedSince(tenant, since) {
      const fromHour = hourOf(new Date(since));
      const [row] = await store.usage({ by: 'tenant', tenant, fromHour, toHour: Number.MAX_SAFE_INTEGER, limit: 1 });
      const { requests = 0, engineMicroseconds = 0, requestBytes = 0, responseBytes = 0 } = row ?? {};
      return { requests, engineMs: engineMicroseconds / 1000, bytes: requestBytes + responseBytes };
    },
  };
  return store;
}

/** From and to in the order of subjects. */
function rangeOf({ by, tenant, after }: UsageQuery): [string, string] {
  const [from, to] =
    by === 'model' || tenant === undefined
      ? ['-', '+']
      : by === 'tenant'
        ? [`[${tenant}`, `[${tenant}`]
        : [`[${tenant}/`, `(${tenant}0`]; // 0 comes after /
  return [after === undefined || after < from.slice(1) ? from : `(${after}`, to];
}

function exact(sum: number): number {
  if (Number.isSafeInteger(sum)) return sum;
  throw new CfnError('CFN_STORE_FAILED', 'a sum of usage is over 2^53');
}

const withoutZeros = (counts: Readonly<Record<string, number>>): Record<string, number> =>
  Object.fromEntries(Object.entries(counts).filter(([, value]) => value !== 0));
