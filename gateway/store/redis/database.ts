import { CHANGES_MAX } from '../../limits.ts';
import { IDENTITY } from '../../redis/identity.ts';
import { script, type Redis, type Script } from '../../redis/connection.ts';

/** The shared Redis, with what the parts of the store do on it. */
export interface RedisDatabase extends Pick<Redis, 'key' | 'use'> {
  /** Runs a script made by {@link writing}: all of it, or nothing. */
  readonly write: (script: Script, keys: readonly string[], args: readonly (string | Buffer)[]) => Promise<unknown>;
}

/** A log of what changed, by which gateways keep their views current: a stream whose ids are a count without gaps. */
export const CHANGES = 'changes';
export const CHANGES_COUNT = 'changes:count';

/**
 * A script that writes. `k` and `a` are its keys and arguments; `changed(subject)` tells the other gateways. Redis that was emptied
 * meanwhile takes nothing: see `IDENTITY`.
 */
export function writing(lua: string): Script {
  return script(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('CFN the data of this fleet is not here') end
local k, a = {}, {} -- unpack takes no more than some thousands
for i = 4, #KEYS do k[i - 3] = KEYS[i] end
for i = 2, #ARGV do a[i - 1] = ARGV[i] end
local function changed(subject)
  local count = redis.call('INCR', KEYS[2])
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ${CHANGES_MAX}, string.format('%.0f-1', count), 'subject', subject)
end
${lua}`);
}

export function redisDatabase(redis: Redis, identity: () => string): RedisDatabase {
  return {
    key: redis.key,
    use: redis.use,
    write: (it, keys, args) => redis.run(it, [IDENTITY, CHANGES_COUNT, CHANGES, ...keys], [identity(), ...args]),
  };
}

/** The first of an index, in order; indexes are sorted sets whose members all have one score. */
export function listed(
  { key, use }: RedisDatabase,
  index: string,
  limit: number,
  [from, to]: readonly [string, string] = ['-', '+'],
): Promise<string[]> {
  return use((client) => client.zRangeByLex(key(index), from, to, { LIMIT: { offset: 0, count: limit } }));
}
