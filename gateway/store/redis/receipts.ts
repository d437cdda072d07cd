import { LIST_MAX, REDIS_RECEIPTS_MAX } from '../../limits.ts';
import type { LedgerEntry, ReceiptStore, UsageRow } from '../receipts.ts';
import { listed, writing, type RedisDatabase } from './database.ts';

// Sums and receipts in one script: a request is counted exactly when its receipt is there.
const ADD = writing(`
local added = 0
for i = 1, #a / 8 do
  local at, usage, used = (i - 1) * 8, k[3 * i], k[3 * i + 1]
  if redis.call('SETNX', k[3 * i - 1], a[at + 2]) == 1 then
    added = added + 1
    redis.call('ZADD', k[1], 0, a[at + 1])
    redis.call('HINCRBY', usage, 'requests', 1)
    redis.call('HINCRBY', usage, 'failed', a[at + 3])
    redis.call('HINCRBYFLOAT', usage, 'cpuMs', a[at + 4])
    redis.call('HINCRBYFLOAT', usage, 'engineMs', a[at + 5])
    redis.call('HINCRBY', usage, 'requestBytes', a[at + 6])
    redis.call('HINCRBY', usage, 'responseBytes', a[at + 7])
    redis.call('HINCRBY', used, a[at + 8] .. ' requests', 1)
    redis.call('HINCRBYFLOAT', used, a[at + 8] .. ' engineMs', a[at + 5])
    redis.call('HINCRBY', used, a[at + 8] .. ' bytes', a[at + 6] + a[at + 7])
  end
end
return added`);
const ADD_EVIDENCE = writing(`redis.call('SETNX', k[1], a[1])`);

const SUMS = ['requests', 'failed', 'cpuMs', 'engineMs', 'requestBytes', 'responseBytes'] as const;

/** `receipt:{id}`, `evidence:{digest}`: values; `usage:{tenant}/{name}`: a hash of sums each; `usage`: `tenant name`; `used:{tenant}`: sums by the hour. */
export function redisReceipts(database: RedisDatabase): ReceiptStore {
  const { key, use, write } = database;

  async function addSome(entries: readonly LedgerEntry[]): Promise<number> {
    const keys = entries.flatMap(({ receipt: { id, function: ran } }) => [
      `receipt:${id}`,
      `usage:${ran.tenant}/${ran.name}`,
      `used:${ran.tenant}`,
    ]);
    const args = entries.flatMap(({ jws, receipt: { issuedAt, function: ran, outcome, usage, request, response } }) => [
      `${ran.tenant} ${ran.name}`,
      jws,
      outcome === 'ok' ? '0' : '1',
      `${usage.cpuMs}`,
      `${usage.engineMs}`,
      `${request.bytes}`,
      `${response.bytes}`,
      hourOf(issuedAt),
    ]);
    return Number(await write(ADD, ['usage', ...keys], args));
  }

  return {
    // A batch of many, after Redis was away, goes in parts: adding is idempotent, and Redis serves others in between.
    async addReceipts(entries) {
      let added = 0;
      for (let at = 0; at < entries.length; at += REDIS_RECEIPTS_MAX)
        added += await addSome(entries.slice(at, at + REDIS_RECEIPTS_MAX));
      return added;
    },
    receipt: (id) => use(async (client) => (await client.get(key(`receipt:${id}`))) ?? undefined),
    async usage(tenant) {
      const range = tenant === undefined ? undefined : ([`[${tenant} `, `(${tenant}!`] as const);
      const names = await listed(database, 'usage', LIST_MAX, range);
      return use((client) =>
        Promise.all(
          names.map(async (it): Promise<UsageRow> => {
            const [owner = '', name = ''] = it.split(' ', 2);
            const sums = (await client.hmGet(key(`usage:${owner}/${name}`), [...SUMS])).map(Number);
            const [requests = 0, failed = 0, cpuMs = 0, engineMs = 0, requestBytes = 0, responseBytes = 0] = sums;
            return { tenant: owner, name, requests, failed, cpuMs, engineMs, requestBytes, responseBytes };
          }),
        ),
      );
    },
    async usedSince(tenant, since) {
      const sums = Object.entries(await use((client) => client.hGetAll(key(`used:${tenant}`))));
      const sum = (name: string): number =>
        sums.reduce((all, [field, value]) => {
          const [hour = '', of] = field.split(' ', 2);
          return of === name && hour >= hourOf(since) ? all + Number(value) : all;
        }, 0);
      return { requests: sum('requests'), engineMs: sum('engineMs'), bytes: sum('bytes') };
    },

    async addEvidence(digest, json) {
      await write(ADD_EVIDENCE, [`evidence:${digest}`], [json]);
    },
    evidence: (digest) => use(async (client) => (await client.get(key(`evidence:${digest}`))) ?? undefined),
  };
}

/** `2026-11-01T00` */
const hourOf = (at: string): string => at.slice(0, 13);
