import { createClient } from 'redis';
import type { Log } from '../log.ts';
import type { Store, Used } from '../store/index.ts';
import type { QuotaBook } from './book.ts';
import { memoryBook } from './memory-book.ts';
import { redisBook } from './redis-book.ts';

export interface OpenBook {
  readonly book: QuotaBook;
  /** Where the book does not outlast the gateway: what was used before, as receipts say. */
  readonly usedSince?: (tenant: string, since: string) => Promise<Used>;
  close(): void;
}

/** The book in memory, for one gateway; or in Redis, for all that are given its URL. Redis need not be there yet, nor stay. */
export function openBook(
  { redis: url, monotonicMs, log }: { readonly redis?: string; readonly monotonicMs: () => number; readonly log: Log },
  store: Pick<Store, 'usedSince'>,
): OpenBook {
  if (url === undefined) return { book: memoryBook(monotonicMs), usedSince: store.usedSince, close: () => undefined };
  const redis = createClient({
    url,
    // A command for a Redis that is away fails at once, instead of waiting for it.
    disableOfflineQueue: true,
    commandsQueueMaxLength: 10_000,
    pingInterval: 1_000,
    socket: {
      connectTimeout: 2_000,
      socketTimeout: 5_000,
      reconnectStrategy: (attempt) => Math.min(100 * (attempt + 1), 2_000),
    },
  });
  let away = false;
  redis.on('ready', () => (away = false));
  redis.on('error', () => {
    if (!away) log('redis.away'); // without its message, which names the URL
    away = true;
  });
  redis.connect().catch(() => undefined); // it goes on trying
  return { book: redisBook(redis), close: () => redis.destroy() };
}
