import { CfnError } from '../../../proto/index.ts';
import { LIST_MAX } from '../../limits.ts';
import type { TenantStore } from '../tenants.ts';
import { writing, type RedisDatabase } from './database.ts';

const ADD = writing(`
local added = redis.call('HSETNX', k[1], a[1], a[2])
if added == 1 then changed('tenant ' .. a[1]) end
return added`);
const SET_LIMITS = writing(`
if redis.call('HEXISTS', k[1], a[1]) == 0 then return 0 end
redis.call('HSET', k[2], a[1], a[2])
changed('limits ' .. a[1])
return 1`);

/** `tenants`: a hash of names and when they were made; `limits`: of names and JSON. */
export function redisTenants({ key, use, write }: RedisDatabase): TenantStore {
  return {
    async addTenant({ name, createdAt }) {
      if ((await write(ADD, ['tenants'], [name, createdAt])) === 0)
        throw new CfnError('CFN_CONFLICT', `tenant ${name} exists`);
    },
    hasTenant: (name) => use(async (client) => (await client.hExists(key('tenants'), name)) === 1),
    async tenants() {
      const all = Object.entries(await use((client) => client.hGetAll(key('tenants'))));
      const sorted = all.toSorted(([a], [b]) => (a < b ? -1 : 1)).slice(0, LIST_MAX);
      return sorted.map(([name, createdAt]) => ({ name, createdAt }));
    },
    async setLimits(tenant, limits) {
      if ((await write(SET_LIMITS, ['tenants', 'limits'], [tenant, limits])) === 0)
        throw new CfnError('CFN_TENANT_NOT_FOUND', `no tenant ${tenant}`);
    },
    limits: (tenant) => use(async (client) => (await client.hGet(key('limits'), tenant)) ?? undefined),
  };
}
