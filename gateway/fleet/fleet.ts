import { join } from 'node:path';
import { toHex } from '../../proto/index.ts';
import { VIEW_ABSENT_MAX, VIEW_AGE_MS_MAX, VIEW_ENTRIES_MAX, VIEW_KEYS_MAX, VIEW_MODELS_MAX } from '../limits.ts';
import type { Log } from '../log.ts';
import { openRedis, type Redis } from '../redis/connection.ts';
import { durabilityCheck } from '../redis/durability.ts';
import { redisIdentity } from '../redis/identity.ts';
import { redisStore, type Store } from '../store/index.ts';
import { followChanges } from './changes.ts';
import { evidenceLater } from './evidence-later.ts';
import { sharedStore, type Views } from './shared-store.ts';
import { view } from './view.ts';

export interface FleetOptions {
  /** Of the Redis that the gateways share; with its password, so never logged. */
  readonly url: string;
  readonly stateFolder: string;
  readonly monotonicMs: () => number;
  readonly randomBytes: (length: number) => Uint8Array;
  readonly log: Log;
  /** Workers that an operator named or took out, at whichever gateway; also when that may have happened unseen. */
  readonly onWorkers: () => void;
}

/** What one gateway has of the fleet. */
export interface Fleet {
  readonly redis: Redis;
  /** Requests read it from a local view, which is at most {@link VIEW_AGE_MS_MAX} old. */
  readonly store: Store;
  /** Whether the view may still be used. */
  isCurrent(): boolean;
}

/** @throws {CfnError} `CFN_STORE_FAILED` when Redis is away, loses what it is told, or lost what this gateway knew it to hold. */
export async function joinFleet(options: FleetOptions): Promise<Fleet> {
  const { monotonicMs, log, onWorkers } = options;
  const identity = await redisIdentity(join(options.stateFolder, 'redis.id'), () => toHex(options.randomBytes(16)));
  const redis = await openRedis({
    url: options.url,
    prefix: 'cfn:',
    monotonicMs,
    log,
    checks: [durabilityCheck(log), identity.check],
  });
  const id = (): string => identity.id;
  const isCurrent = (): boolean => changes.ageMs() <= VIEW_AGE_MS_MAX;
  const views: Views = {
    known: view(isCurrent, VIEW_ENTRIES_MAX, VIEW_ABSENT_MAX),
    keys: view(isCurrent, VIEW_KEYS_MAX, VIEW_ABSENT_MAX),
    models: view(isCurrent, VIEW_MODELS_MAX, VIEW_ABSENT_MAX),
  };
  const kept = redisStore(redis, id);
  const evidence = evidenceLater(kept);
  const changes = followChanges({
    redis,
    identity: id,
    monotonicMs,
    log,
    onChange(subject) {
      for (const it of Object.values(views)) it.drop(subject);
      if (subject.startsWith('worker ')) onWorkers();
    },
    onGap() {
      for (const it of Object.values(views)) it.clear();
      onWorkers();
      evidence.flush().catch(() => {}); // what is left waits for the next connection
    },
  });
  const store = sharedStore(kept, views);
  return {
    redis,
    isCurrent,
    store: {
      ...store,
      addEvidence: evidence.addEvidence,
      evidence: evidence.evidence,
      async close() {
        await changes.stop();
        await store.close();
      },
    },
  };
}
