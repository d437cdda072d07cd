import { CfnError } from '../../../proto/index.ts';
import type { TenantStore } from '../tenants.ts';
import { writing, type RedisDatabase } from './database.ts';

const ADD = writing(`
local added = redis.call('HSETNX', k[1], a[1], a[2])
if added == 1 then changed('tenant ' .. a[1]) end
return added`);

/** `tenants`: a hash of names and when they were made. */
export function redisTenants({ key, use, write }: RedisDatabase): TenantStore {
  return {
    async addTenant({ name, createdAt }) {
      if ((await write(ADD, ['tenants'], [name, createdAt])) === 0)
        throw new CfnError('CFN_CONFLICT', `tenant ${name} exists`);
    },
    hasTenant: (name) => use(async (client) => (await client.hExists(key('tenants'), name)) === 1),
  };
}
