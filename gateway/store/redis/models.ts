import { CfnError, equalBytes } from '../../../proto/index.ts';
import { LIST_MAX } from '../../limits.ts';
import { AS_BYTES } from '../../redis/connection.ts';
import type { ModelStore } from '../models.ts';
import { listed, writing, type RedisDatabase } from './database.ts';

const ADD = writing(`
if redis.call('EXISTS', k[1]) == 1 then return 0 end
redis.call('HSET', k[1], 'digest', a[2], 'createdAt', a[3], 'manifest', a[4])
redis.call('ZADD', k[2], 0, a[1])
changed('model ' .. a[1])
return 1`);

/** `model:{reference}`: a hash each; `models`: their references. */
export function redisModels(database: RedisDatabase): ModelStore {
  const { key, use, write } = database;
  const held = (reference: string) =>
    use(async (client) => {
      const [digest, manifest] = await client
        .withTypeMapping(AS_BYTES)
        .hmGet(key(`model:${reference}`), ['digest', 'manifest']);
      if (digest == null || manifest == null) return undefined;
      return { digest: digest.toString(), manifest: new Uint8Array(manifest) };
    });
  return {
    async addModel({ model, digest, createdAt }, manifest) {
      const args = [model, digest, createdAt, Buffer.from(manifest)];
      if ((await write(ADD, [`model:${model}`, 'models'], args)) === 1) return true;
      const before = await held(model);
      if (before === undefined || !equalBytes(before.manifest, manifest))
        throw new CfnError('CFN_CONFLICT', `model ${model} exists with other content`);
      return false;
    },
    async models(owner) {
      const range = owner === undefined ? undefined : ([`[${owner}/`, `(${owner}0`] as const); // 0 comes after /
      const references = await listed(database, 'models', LIST_MAX, range);
      return use((client) =>
        Promise.all(
          references.map(async (model) => {
            const [digest, createdAt] = await client.hmGet(key(`model:${model}`), ['digest', 'createdAt']);
            return { model, digest: digest ?? '', createdAt: createdAt ?? '' };
          }),
        ),
      );
    },
    model: held,
  };
}
