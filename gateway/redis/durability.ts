import { CfnError } from '../../proto/index.ts';
import type { Log } from '../log.ts';
import type { RedisServerView } from './connection.ts';

/**
 * Whether this Redis keeps what it acknowledges. Refused: no append-only file, or keys evicted for want of memory; either loses
 * deployments and receipts by itself. `appendfsync everysec` loses nothing when Redis is killed and up to two seconds when its machine
 * fails, which is for the operator to decide: a warning. Where a provider hides the setting, that is said, too.
 */
export function durabilityCheck(log: Log): (server: RedisServerView) => Promise<void> {
  return async ({ client }) => {
    const persistence = await client.info('persistence');
    if (!/^aof_enabled:1\r?$/m.test(persistence))
      throw new CfnError('CFN_STORE_FAILED', 'Redis keeps no append-only file: set `appendonly yes`');
    const memory = await client.info('memory');
    const eviction = /^maxmemory_policy:(\S+)/m.exec(memory)?.[1] ?? '';
    // Keys with an end of their own are hints and counters; those may go.
    if (eviction.startsWith('allkeys'))
      throw new CfnError('CFN_STORE_FAILED', `Redis evicts keys (${eviction}): set \`maxmemory-policy noeviction\``);
    const fsync = await client.configGet('appendfsync').catch(() => undefined);
    const when = fsync?.['appendfsync'] ?? 'unknown';
    if (when !== 'always')
      log('redis.durability', { appendfsync: when, lost: 'the last seconds, when the machine of Redis fails' });
  };
}
