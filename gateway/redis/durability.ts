import { CfnError } from '../../proto/index.ts';
import type { Log } from '../log.ts';
import type { RedisServerView } from './connection.ts';

/**
 * Whether this Redis keeps what it acknowledges; one that does not is refused. `appendfsync everysec` would lose up to two seconds of
 * deployments and receipts, not only when its machine fails: it answers before it writes while an fsync is under way, and then a kill is
 * enough. No request waits for this Redis, so an fsync for each write costs little. Where a provider hides the setting, the log says so.
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
    const when = fsync?.['appendfsync'];
    if (when === undefined) log('redis.durability-unknown');
    else if (when !== 'always')
      throw new CfnError('CFN_STORE_FAILED', `Redis has \`appendfsync ${when}\`, which loses seconds: set \`always\``);
  };
}
