import { z } from 'zod';
import { CfnError } from '../../../proto/index.ts';
import { DEPLOYMENTS_KEPT, LIST_MAX } from '../../limits.ts';
import type { Deployment, DeploymentStore } from '../deployments.ts';
import { writing, type RedisDatabase } from './database.ts';

const DEPLOY = writing(`
for i = 4, #k do
  local of = redis.call('HMGET', k[i], 'tenant', 'name')
  if of[1] ~= a[1] or of[2] ~= a[2] then return 'missing' end
end
local current = redis.call('HGET', k[1], 'deployment')
if a[6] ~= '' and current ~= a[6] then return 'overtaken' end
local id = redis.call('HINCRBY', k[1], 'deployment', 1)
redis.call('HSET', k[1], 'version', a[4], 'deployedAt', a[5])
redis.call('ZADD', k[2], 0, a[1] .. ' ' .. a[2])
redis.call('LPUSH', k[3], id .. ' ' .. a[3])
redis.call('LTRIM', k[3], 0, ${DEPLOYMENTS_KEPT - 1})
changed('function ' .. a[1] .. '/' .. a[2])
return tostring(id)`);

const bodySchema = z.object({
  versions: z.array(z.object({ version: z.string(), percent: z.number() })),
  at: z.string(),
  cause: z.enum(['deploy', 'versions', 'rollback', 'stopped']),
  message: z.string(),
});

/** `deployments:{tenant}/{name}`: a list, the newest first, of ids and JSON. */
export function redisDeployments(database: RedisDatabase): DeploymentStore {
  const { key, use } = database;
  const newest = async (tenant: string, name: string, count: number): Promise<Deployment[]> => {
    const held = await use((client) => client.lRange(key(`deployments:${tenant}/${name}`), 0, count - 1));
    return held.map((text) => ({ tenant, name, ...parse(text) }));
  };
  return {
    addDeployment: (deployment, after) => deploy(database, deployment, after),
    currentDeployment: async (tenant, name) => (await newest(tenant, name, 1))[0],
    deployments: (tenant, name) => newest(tenant, name, LIST_MAX),
    versions: (tenant, name) =>
      use(async (client) => {
        const versions = await client.lRange(key(`versions:${tenant}/${name}`), 0, LIST_MAX - 1);
        return Promise.all(
          versions.map(async (version) => ({
            version,
            uploadedAt: (await client.hGet(key(`version:${version}`), 'uploadedAt')) ?? '',
          })),
        );
      }),
  };
}

export async function deploy(
  { write }: RedisDatabase,
  deployment: Omit<Deployment, 'id'>,
  after?: number,
): Promise<Deployment> {
  const { tenant, name, ...body } = deployment;
  const [leading] = body.versions.toSorted((a, b) => b.percent - a.percent);
  const said = await write(
    DEPLOY,
    [
      `function:${tenant}/${name}`,
      'functions',
      `deployments:${tenant}/${name}`,
      ...body.versions.map(({ version }) => `version:${version}`),
    ],
    [tenant, name, JSON.stringify(body), leading?.version ?? '', body.at, after === undefined ? '' : `${after}`],
  );
  if (said === 'missing') throw new CfnError('CFN_FUNCTION_NOT_FOUND', `${tenant}/${name} has no such version`);
  if (said === 'overtaken')
    throw new CfnError('CFN_CONFLICT', `deployment ${after} of ${tenant}/${name} is not the current one any more`);
  return { ...deployment, id: Number(said) };
}

/** @throws {CfnError} `CFN_STORE_FAILED` for what no gateway has written */
function parse(text: string): Omit<Deployment, 'tenant' | 'name'> {
  try {
    const space = text.indexOf(' ');
    return {
      id: z.coerce.number().int().parse(text.slice(0, space)),
      ...bodySchema.parse(JSON.parse(text.slice(space))),
    };
  } catch (cause) {
    throw new CfnError('CFN_STORE_FAILED', 'a deployment in Redis is not one', { cause });
  }
}
