import { LIST_MAX } from '../../limits.ts';
import { AS_BYTES } from '../../redis/connection.ts';
import type { FunctionRecord, FunctionStore, FunctionVersion } from '../functions.ts';
import { listed, writing, type RedisDatabase } from './database.ts';
import { deploy } from './deployments.ts';

const UPLOAD = writing(`
if redis.call('EXISTS', k[1]) == 1 then return 0 end
redis.call('HSET', k[1], 'tenant', a[2], 'name', a[3], 'jws', a[4], 'bundle', a[5], 'uploadedAt', a[6])
redis.call('LPUSH', k[2], a[1])
return 1`);

/** `version:{version}` and `function:{tenant}/{name}`: a hash each; `versions:{tenant}/{name}`: a list; `functions`: `tenant name`, as a space sorts before all of a name. */
export function redisFunctions(database: RedisDatabase): FunctionStore {
  const { key, use, write } = database;
  const current = (tenant: string, name: string): Promise<FunctionRecord | undefined> =>
    use(async (client) => {
      const [version, deployedAt] = await client.hmGet(key(`function:${tenant}/${name}`), ['version', 'deployedAt']);
      return version == null || deployedAt == null ? undefined : { tenant, name, version, deployedAt };
    });
  const upload = async ({ tenant, name, version, jws, bundle }: FunctionVersion, at: string): Promise<boolean> => {
    const args = [version, tenant, name, jws, Buffer.from(bundle), at];
    return (await write(UPLOAD, [`version:${version}`, `versions:${tenant}/${name}`], args)) === 1;
  };
  return {
    uploadVersion: upload,
    // Two steps: a version that nothing deploys is harmless, and the next attempt finds it.
    async addVersion(it, at) {
      const added = await upload(it, at);
      const { tenant, name, version } = it;
      await deploy(database, { tenant, name, versions: [{ version, percent: 100 }], at, cause: 'deploy', message: '' });
      return added;
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
