import type { Redis } from '../../redis/connection.ts';
import type { Store } from '../store.ts';
import { redisDatabase } from './database.ts';
import { redisDeployments } from './deployments.ts';
import { redisFunctions } from './functions.ts';
import { redisKeys } from './keys.ts';
import { redisModels } from './models.ts';
import { redisOperator } from './operator.ts';
import { redisReceipts } from './receipts.ts';
import { redisTenants } from './tenants.ts';

/** The store that gateways share: durable as far as Redis is (`redis/durability.ts`). @param identity of the data, once it is known */
export function redisStore(redis: Redis, identity: () => string): Store {
  const database = redisDatabase(redis, identity);
  return {
    ...redisTenants(database),
    ...redisKeys(database),
    ...redisModels(database),
    ...redisFunctions(database),
    ...redisDeployments(database),
    ...redisReceipts(database),
    ...redisOperator(database),
    close: async () => redis.close(),
  };
}
export { CHANGES, CHANGES_COUNT } from './database.ts';
