import { mkdtempSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openRedis, type Redis, type RedisOptions } from './connection.ts';
import { durabilityCheck } from './durability.ts';
import { redisIdentity, type Identity } from './identity.ts';

export interface OpenedRedis {
  readonly redis: Redis;
  readonly identity: Identity;
  readonly logs: string[];
}

/** A connection as a gateway opens it. @param file of the identity, when it is to be known again */
export async function openTestRedis(
  change: Partial<RedisOptions> & { url: string },
  file?: string,
): Promise<OpenedRedis> {
  const logs: string[] = [];
  const log = (event: string, fields = {}): void => void logs.push(JSON.stringify({ event, ...fields }));
  const place = file ?? join(mkdtempSync(join(tmpdir(), 'cfn-redis-id-')), 'redis.id');
  const identity = await redisIdentity(place, () => randomBytes(16).toString('hex'));
  const redis = await openRedis({
    prefix: 'cfn:',
    monotonicMs: () => performance.now(),
    log,
    checks: [durabilityCheck(log), identity.check],
    ...change,
  });
  return { redis, identity, logs };
}
