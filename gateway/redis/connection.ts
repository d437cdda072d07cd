import { createHash } from 'node:crypto';
import { createClient, RESP_TYPES } from 'redis';
import { CfnError } from '../../proto/index.ts';
import { REDIS_BACKOFF_MS, REDIS_COMMAND_MS_MAX, REDIS_CONNECT_MS_MAX, REDIS_PENDING_MAX } from '../limits.ts';
import type { Log } from '../log.ts';

export interface RedisOptions {
  /** `redis://` or `rediss://`, with user, password and database. Never logged. */
  readonly url: string;
  /** Before every key, so that one Redis serves several fleets. */
  readonly prefix: string;
  /** 2 is spoken by every version; 3 from Redis 6 on, and by Valkey. */
  readonly protocol?: 2 | 3;
  /** A command that takes longer fails, in ms. */
  readonly commandMs?: number;
  readonly monotonicMs: () => number;
  readonly log: Log;
  /** Asked of every new connection before it is used. While one of them throws, the connection takes no command. */
  readonly checks: readonly ((server: RedisServerView) => Promise<void>)[];
}

/** What a check works with: the connection that is being opened. */
export interface RedisServerView {
  readonly client: RedisClient;
  readonly key: (name: string) => string;
}

/**
 * One connection to the Redis that gateways share. A command never waits for a connection, and never longer than its deadline:
 * what is not answered has failed, and may have happened all the same.
 */
export interface Redis {
  readonly key: (name: string) => string;
  /** @throws {CfnError} `CFN_STORE_FAILED` when Redis is away, slow, or refuses. */
  readonly use: <T>(work: (client: RedisClient) => Promise<T>) => Promise<T>;
  /** Runs a Lua script, atomic in Redis. Keys are given without the prefix. @throws {CfnError} `CFN_STORE_FAILED` */
  run(script: Script, keys: readonly string[], args: readonly (string | Buffer)[]): Promise<unknown>;
  /** How many connections there were: data that was read over an earlier one may have been lost by Redis since. */
  connections(): number;
  close(): void;
}

export interface Script {
  readonly lua: string;
  readonly sha: string;
}

export function script(lua: string): Script {
  return { lua, sha: createHash('sha1').update(lua).digest('hex') };
}

export type RedisClient = ReturnType<typeof makeClient>;

/** Values as bytes: manifests and bundles are not text. */
export const AS_BYTES = { [RESP_TYPES.BLOB_STRING]: Buffer } as const;

function makeClient({ url, protocol = 2 }: Pick<RedisOptions, 'url' | 'protocol'>) {
  return createClient({
    url,
    RESP: protocol,
    disableOfflineQueue: true,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    commandsQueueMaxLength: REDIS_PENDING_MAX,
    socket: {
      connectTimeout: REDIS_CONNECT_MS_MAX,
      reconnectStrategy: (retries) =>
        Math.min(REDIS_BACKOFF_MS.first * 2 ** Math.min(retries, 10), REDIS_BACKOFF_MS.max),
    },
  });
}

/** @throws {CfnError} `CFN_STORE_FAILED` when Redis does not answer, or a check refuses it. */
export async function openRedis(options: RedisOptions): Promise<Redis> {
  const { prefix, monotonicMs, log, commandMs = REDIS_COMMAND_MS_MAX } = options;
  const key = (name: string): string => prefix + name;
  let client: RedisClient;
  let usable = false;
  let closed = false;
  let why = 'not connected';
  let answeredAtMs = 0;
  let connections = 0;

  /** A fresh client in place of one that hangs: its queue of unanswered commands goes with it. */
  function connect(): Promise<void> {
    const made = makeClient(options);
    client = made;
    const first = Promise.withResolvers<void>();
    const lost = (cause: unknown): void => {
      if (client !== made || closed) return;
      const code = nameOf(cause);
      if (usable || why !== code) log('redis.away', { why: code });
      usable = false;
      why = code;
      first.reject(failed(`Redis does not answer: ${code}`));
    };
    const admit = async (): Promise<void> => {
      try {
        for (const check of options.checks) await within(commandMs, check({ client: made, key }));
        if (client !== made || closed || !made.isReady) return;
        usable = true;
        connections++;
        log('redis.connected');
        first.resolve();
      } catch (cause) {
        if (client !== made || closed) return;
        const error = asFailure(cause);
        if (why !== error.message) log('redis.refused', { code: error.code, detail: error.message });
        why = error.message;
        first.reject(error);
        // Whoever runs Redis may put its data back without a restart.
        setTimeout(() => client === made && !closed && made.isReady && !usable && void admit(), 1_000).unref();
      }
    };
    made.on('error', lost);
    made.on('ready', () => void admit());
    made.connect().catch(lost);
    return first.promise;
  }

  /** Nothing came back since the command was sent: the connection hangs, as of a server that is frozen or cut off. */
  function abandon(hanging: RedisClient): void {
    if (client !== hanging || closed) return;
    usable = false;
    why = 'silent';
    log('redis.away', { why });
    hanging.destroy();
    connect().catch(() => {});
  }

  const redis: Redis = {
    key,
    async use(work) {
      if (!usable || !client.isReady) throw failed(`Redis is not to be used now: ${why}`);
      const asked = client;
      const askedAtMs = monotonicMs();
      try {
        const result = await within(commandMs, work(asked));
        answeredAtMs = monotonicMs();
        return result;
      } catch (cause) {
        if (cause === TOO_LATE && answeredAtMs < askedAtMs) abandon(asked);
        throw asFailure(cause);
      }
    },
    run: ({ lua, sha }, keys, args) =>
      redis.use(async (it) => {
        const call = { keys: keys.map(key), arguments: [...args] };
        try {
          return await it.evalSha(sha, call);
        } catch (cause) {
          if (!(cause instanceof Error && cause.message.startsWith('NOSCRIPT'))) throw cause;
          return await it.eval(lua, call);
        }
      }),
    connections: () => connections,
    close() {
      closed = true;
      usable = false;
      why = 'closed';
      client.destroy();
    },
  };
  try {
    await connect();
  } catch (cause) {
    redis.close();
    throw cause;
  }
  return redis;
}

const TOO_LATE = Symbol('too late');

function within<T>(ms: number, work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    // oxlint-disable-next-line typescript/prefer-promise-reject-errors -- told apart by identity, and never leaves this file
    const timer = setTimeout(() => reject(TOO_LATE), ms);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** What went wrong, without the message: it may hold what was sent. */
function nameOf(cause: unknown): string {
  if (!(cause instanceof Error)) return 'unknown';
  return 'code' in cause && typeof cause.code === 'string' ? cause.code : cause.name;
}

function asFailure(cause: unknown): CfnError {
  if (cause instanceof CfnError) return cause;
  if (cause === TOO_LATE) return failed('Redis did not answer in time');
  return failed(`Redis refused: ${cause instanceof Error ? cause.message.slice(0, 200) : 'unknown'}`, cause);
}

function failed(message: string, cause?: unknown): CfnError {
  return new CfnError('CFN_STORE_FAILED', message, { cause });
}
