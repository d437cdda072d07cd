import { z } from 'zod';
import { CfnError, toCfnError } from '../../proto/index.ts';
import { CHANGES_POLL_MS } from '../limits.ts';
import type { Log } from '../log.ts';
import { IDENTITY } from '../redis/identity.ts';
import { script, type Redis } from '../redis/connection.ts';
import { CHANGES, CHANGES_COUNT } from '../store/index.ts';

export interface Changes {
  /** For how long this gateway may have missed a change, in ms. */
  ageMs(): number;
  stop(): Promise<void>;
}

export interface ChangesDependencies {
  readonly redis: Redis;
  readonly identity: () => string;
  readonly monotonicMs: () => number;
  readonly log: Log;
  /** What was changed, by whichever gateway: `function acme/echo`. */
  readonly onChange: (subject: string) => void;
  /** Anything may have changed. */
  readonly onGap: () => void;
}

const PAGE = 1_000;
const POLL = script(`
return { redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]) or '0',
  redis.call('XRANGE', KEYS[3], ARGV[1] .. '-0', '+', 'COUNT', ${PAGE}) }`);
const entrySchema = z.tuple([z.string().regex(/^\d+-1$/), z.tuple([z.literal('subject'), z.string()])]);
const replySchema = z.tuple([z.string().nullable(), z.string().regex(/^\d+$/), z.array(entrySchema)]);

/**
 * Follows what gateways change, by asking: a silent connection is then no different from a slow one, and an answer says what holds now,
 * where a subscription could have missed it.
 */
export function followChanges(deps: ChangesDependencies): Changes {
  const { redis, monotonicMs, log, onChange, onGap } = deps;
  let seen: { readonly count: number; readonly connection: number } | undefined;
  let currentAtMs = -Infinity;
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  let polling = Promise.resolve();

  async function poll(): Promise<void> {
    const askedAtMs = monotonicMs();
    const connection = redis.connections();
    const from = `${(seen?.count ?? 0) + 1}`;
    const reply = replySchema.safeParse(await redis.run(POLL, [IDENTITY, CHANGES_COUNT, CHANGES], [from]));
    if (!reply.success) throw new CfnError('CFN_STORE_FAILED', 'the log of changes in Redis is not one');
    const [id, counted, entries] = reply.data;
    if (id !== deps.identity()) throw new CfnError('CFN_STORE_FAILED', 'Redis has lost its data, or is another one');
    const count = Number(counted);
    if (seen !== undefined && count < seen.count) log('redis.went-back', { changes: seen.count - count });
    let next = seen?.count ?? count;
    // After another connection Redis may have come back with less than it had.
    let whole = seen?.connection === connection && count >= next;
    for (const [position, [, subject]] of entries) {
      if (!whole) break;
      whole = Number.parseInt(position, 10) === next + 1;
      if (whole) onChange(subject);
      next++;
    }
    if (!whole || (entries.length < PAGE && next !== count)) {
      onGap();
      next = count;
    }
    seen = { count: next, connection };
    if (next === count) currentAtMs = askedAtMs;
  }

  function again(afterMs: number): void {
    if (stopped) return;
    timer = setTimeout(() => {
      polling = poll().then(
        () => again(CHANGES_POLL_MS),
        (cause: unknown) => {
          const { code, message } = toCfnError(cause);
          log('fleet.stale', { code, detail: message });
          again(CHANGES_POLL_MS * 5);
        },
      );
    }, afterMs);
    timer.unref();
  }
  again(0);

  return {
    ageMs: () => monotonicMs() - currentAtMs,
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await polling;
    },
  };
}
