import { LIST_MAX, REDIS_RECEIPTS_MAX } from '../../limits.ts';
import { AS_BYTES } from '../../redis/connection.ts';
import { usageOf } from '../receipt-usage.ts';
import type { BatchHead, LedgerEntry, ReceiptStore, StoredReceipt } from '../receipts.ts';
import { listed, writing, type RedisDatabase } from './database.ts';
import { redisUsage, usageRows } from './usage.ts';

// Receipts and sums in one script: a request is counted exactly when its receipt is there. Which hour is open was read before; where
// another gateway sealed it since, nothing is done.
const ADD = writing(`
if (redis.call('ZRANGE', k[1], -1, -1)[1] or '') ~= a[1] then return 'sealed' end
local added = 0
for _, it in ipairs(cjson.decode(a[3])) do
  if redis.call('HSETNX', k[it.receipt], 'jws', it.jws) == 1 then
    added = added + 1
    redis.call('HSET', k[it.receipt], 'hour', a[2], 'tenant', it.tenant)
    redis.call('ZADD', k[2], a[2], a[2])
    redis.call('ZADD', k[3], 0, it.id)
    redis.call('ZADD', k[it.worker], it.sequence, it.id)
    for _, row in ipairs(it.rows) do
      redis.call('ZADD', k[row.subjects], 0, row.subject)
      for name, value in pairs(row.counts) do
        redis.call('HINCRBY', k[row.sums], row.subject .. ' ' .. name, value)
      end
    end
  end
end
return added`);
const SEAL = writing(`
local newest = redis.call('ZRANGE', k[1], -1, -1)[1] or ''
if newest ~= a[1] or (newest ~= '' and tonumber(a[2]) <= tonumber(newest)) then return 0 end
if redis.call('ZCARD', k[2]) ~= tonumber(a[3]) then return 0 end
redis.call('HSET', k[3], 'size', a[3], 'jws', a[4], 'blocks', a[5])
redis.call('ZADD', k[1], a[2], a[2])
return 1`);
const ADD_EVIDENCE = writing(`redis.call('SETNX', k[1], a[1])`);

/**
 * `receipt:{id}`: a hash each; `receipts:hour:{hour}`: their ids; `receipts:worker:{worker}`: their ids by sequence; `hours`: those that hold
 * receipts; `batch:{hour}`: a hash each; `batches`: their hours; `evidence:{digest}`. Sums are in `usage.ts`.
 */
export function redisReceipts(database: RedisDatabase): ReceiptStore {
  const { key, use, write } = database;

  const newestHour = (): Promise<string> =>
    use(async (client) => (await client.zRange(key('batches'), -1, -1))[0] ?? '');

  async function addSome(entries: readonly LedgerEntry[], hour: number): Promise<number> {
    for (;;) {
      const newest = await newestHour();
      const open = newest === '' ? hour : Math.max(hour, Number(newest) + 1);
      const keys = ['batches', 'hours', `receipts:hour:${open}`];
      const places = new Map<string, number>();
      const placeOf = (name: string): number => {
        const place = places.get(name) ?? keys.push(name);
        places.set(name, place);
        return place;
      };
      const told = entries.map(({ jws, receipt }) => ({
        receipt: placeOf(`receipt:${receipt.id}`),
        worker: placeOf(`receipts:worker:${receipt.worker}`),
        id: receipt.id,
        sequence: receipt.sequence,
        tenant: receipt.function.tenant,
        jws,
        rows: usageRows(receipt.function, usageOf(receipt)).map(({ table, subject, counts }) => ({
          subjects: placeOf(`usage:subjects:${table}:${open}`),
          sums: placeOf(`usage:sums:${table}:${open}`),
          subject,
          counts,
        })),
      }));
      const added = await write(ADD, keys, [newest, `${open}`, JSON.stringify(told)]);
      if (added !== 'sealed') return Number(added);
    }
  }

  const heads = (hours: readonly string[]): Promise<BatchHead[]> =>
    use((client) =>
      Promise.all(
        hours.map(async (hour) => {
          const [size, jws] = await client.hmGet(key(`batch:${hour}`), ['size', 'jws']);
          return { hour: Number(hour), size: Number(size), jws: jws ?? '' };
        }),
      ),
    );

  return {
    // Many, after Redis was away, go in parts: adding is idempotent, and Redis serves others in between.
    async addReceipts(entries, hour) {
      let added = 0;
      for (let at = 0; at < entries.length; at += REDIS_RECEIPTS_MAX)
        added += await addSome(entries.slice(at, at + REDIS_RECEIPTS_MAX), hour);
      return added;
    },
    receipt: (id) => use(async (client) => (await client.hGet(key(`receipt:${id}`), 'jws')) ?? undefined),
    ...redisUsage(database),

    receiptsOfWorker: (worker, fromSequence, limit) =>
      use(async (client) => {
        const range = { LIMIT: { offset: 0, count: limit } };
        const ids = await client.zRangeByScore(key(`receipts:worker:${worker}`), fromSequence, '+inf', range);
        return Promise.all(ids.map(async (id) => (await client.hGet(key(`receipt:${id}`), 'jws')) ?? ''));
      }),

    async unsealedHours(beforeHour) {
      const newest = await newestHour();
      const hours = await use((client) =>
        client.zRangeByScore(key('hours'), newest === '' ? '-inf' : `(${newest}`, `(${beforeHour}`),
      );
      return hours.map(Number);
    },
    async receiptsOfHour(hour, afterId, limit) {
      const after = afterId === '' ? '-' : `(${afterId}`;
      const ids = await listed(database, `receipts:hour:${hour}`, limit, [after, '+']);
      return use((client) =>
        Promise.all(
          ids.map(async (id): Promise<StoredReceipt> => {
            const [tenant, jws] = await client.hmGet(key(`receipt:${id}`), ['tenant', 'jws']);
            return { id, tenant: tenant ?? '', jws: jws ?? '' };
          }),
        ),
      );
    },
    hourOfReceipt: (id) =>
      use(async (client) => {
        const hour = await client.hGet(key(`receipt:${id}`), 'hour');
        return hour == null ? undefined : Number(hour);
      }),
    async addBatch({ hour, size, jws, blocks }, previousHour) {
      const keys = ['batches', `receipts:hour:${hour}`, `batch:${hour}`];
      const args = [`${previousHour ?? ''}`, `${hour}`, `${size}`, jws, Buffer.from(blocks)];
      return (await write(SEAL, keys, args)) === 1;
    },
    batch: (hour) =>
      use(async (client) => {
        const fields = await client.withTypeMapping(AS_BYTES).hmGet(key(`batch:${hour}`), ['size', 'jws', 'blocks']);
        const [size, jws, blocks] = fields;
        if (size == null || jws == null || blocks == null) return undefined;
        return { hour, size: Number(size.toString()), jws: jws.toString(), blocks: new Uint8Array(blocks) };
      }),
    async newestBatch() {
      const newest = await newestHour();
      return newest === '' ? undefined : (await heads([newest]))[0];
    },
    async batches(afterHour, limit) {
      const range = { LIMIT: { offset: 0, count: Math.min(limit, LIST_MAX) } };
      return heads(await use((client) => client.zRangeByScore(key('batches'), `(${afterHour}`, '+inf', range)));
    },

    async addEvidence(digest, json) {
      await write(ADD_EVIDENCE, [`evidence:${digest}`], [json]);
    },
    evidence: (digest) => use(async (client) => (await client.get(key(`evidence:${digest}`))) ?? undefined),
  };
}
