import { LIST_MAX } from '../../limits.ts';
import { AS_BYTES } from '../../redis/connection.ts';
import type { ApiKeyRecord, KeyStore } from '../keys.ts';
import { listed, writing, type RedisDatabase } from './database.ts';

const ADD = writing(`
redis.call('HSET', k[1], unpack(a, 3))
redis.call('ZADD', k[2], 0, a[2])
redis.call('ZADD', k[3], 0, a[2])
changed('key ' .. a[1])`);
const REMOVE = writing(`
if redis.call('DEL', k[1]) == 0 then return 0 end
redis.call('ZREM', k[2], a[2])
redis.call('ZREM', k[3], a[2])
changed('key ' .. a[1])
return 1`);
// Not told to the other gateways: no check depends on it.
const USED = writing(`
if redis.call('EXISTS', k[1]) == 1 then redis.call('HSET', k[1], 'usedAt', a[1]) end`);

const FIELDS = ['name', 'role', 'tenant', 'createdAt', 'expiresAt', 'usedAt'] as const;

/** `key:{id}`: a hash each; `keys`, and `keys:{tenant}` (`keys:` for the operator's): `createdAt id`, so the oldest first. */
export function redisKeys(database: RedisDatabase): KeyStore {
  const { key, use, write } = database;
  const held = (id: string): Promise<ApiKeyRecord | undefined> =>
    use(async (client) => {
      const [digest, ...fields] = await client.withTypeMapping(AS_BYTES).hmGet(key(`key:${id}`), ['digest', ...FIELDS]);
      if (digest == null) return undefined;
      const given = FIELDS.flatMap((name, i) => (fields[i] == null ? [] : [[name, fields[i].toString()]]));
      // `ADD` wrote the others.
      return {
        id,
        ...(Object.fromEntries(given) as Omit<ApiKeyRecord, 'id' | 'digest'>),
        digest: new Uint8Array(digest),
      };
    });
  const places = ({ id, tenant }: Pick<ApiKeyRecord, 'id' | 'tenant'>): string[] => [
    `key:${id}`,
    'keys',
    `keys:${tenant ?? ''}`,
  ];
  return {
    async addKey(record) {
      const fields = FIELDS.flatMap((name) => (record[name] === undefined ? [] : [name, record[name]]));
      const { id, createdAt, digest } = record;
      await write(ADD, places(record), [id, `${createdAt} ${id}`, ...fields, 'digest', Buffer.from(digest)]);
    },
    key: held,
    async keys(tenant) {
      const members = await listed(database, tenant === undefined ? 'keys' : `keys:${tenant}`, LIST_MAX);
      const records = await Promise.all(members.map((member) => held(member.slice(member.indexOf(' ') + 1))));
      return records.filter((it) => it !== undefined);
    },
    async removeKey(id, tenant) {
      // Whose it is never changes, so it may be read before.
      const record = await held(id);
      if (record === undefined || (tenant !== undefined && record.tenant !== tenant)) return false;
      return (await write(REMOVE, places(record), [id, `${record.createdAt} ${id}`])) === 1;
    },
    async keyUsed(id, usedAt) {
      await write(USED, [`key:${id}`], [usedAt]);
    },
  };
}
