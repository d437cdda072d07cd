import { LIST_MAX } from '../../limits.ts';
import { AS_BYTES } from '../../redis/connection.ts';
import type { FunctionRecord, FunctionStore } from '../functions.ts';
import { listed, writing, type RedisDatabase } from './database.ts';

const ADD_VERSION = writing(`
local added = 1 - redis.call('EXISTS', k[1])
if added == 1 then redis.call('HSET', k[1], 'tenant', a[2], 'name', a[3], 'jws', a[4], 'bundle', a[5]) end
redis.call('HSET', k[2], 'version', a[1], 'deployedAt', a[6])
redis.call('ZADD', k[3], 0, a[2] .. ' ' .. a[3])
changed('function ' .. a[2] .. '/' .. a[3])
return added`);

/** `version:{version}` and `function:{tenant}/{name}`: a hash each; `functions`: `tenant name`, as a space sorts before all of a name. */
export function redisFunctions(database: RedisDatabase): FunctionStore {
  const { key, use, write } = database;
  const current = (tenant: string, name: string): Promise<FunctionRecord | undefined> =>
    use(async (client) => {
      const [version, deployedAt] = await client.hmGet(key(`function:${tenant}/${name}`), ['version', 'deployedAt']);
      return version == null || deployedAt == null ? undefined : { tenant, name, version, deployedAt };
    });
  return {
    async addVersion({ tenant, name, version, jws, bundle }, deployedAt) {
      const added = await write(
        ADD_VERSION,
        [`version:${version}`, `function:${tenant}/${name}`, 'functions'],
        [version, tenant, name, jws, Buffer.from(bundle), deployedAt],
      );
      return added === 1;
    },
    async functions(tenant) {
      const range = tenant === undefined ? undefined : ([`[${tenant} `, `(${tenant}!`] as const);
      const names = await listed(database, 'functions', LIST_MAX, range);
      const found = await Promise.all(
        names.map((it) => {
          const [owner = '', name = ''] = it.split(' ', 2);
          return current(owner, name);
        }),
      );
      return found.filter((it) => it !== undefined);
    },
    currentVersion: current,
    version: (version) =>
      use(async (client) => {
        const fields = await client
          .withTypeMapping(AS_BYTES)
          .hmGet(key(`version:${version}`), ['tenant', 'name', 'jws', 'bundle']);
        const [tenant, name, jws, bundle] = fields;
        if (tenant == null || name == null || jws == null || bundle == null) return undefined;
        return {
          tenant: tenant.toString(),
          name: name.toString(),
          version,
          jws: jws.toString(),
          bundle: new Uint8Array(bundle),
        };
      }),
  };
}
