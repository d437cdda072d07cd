import type { Redis } from '../redis/connection.ts';
import type { Store, Used } from '../store/index.ts';
import type { QuotaBook } from './book.ts';
import { memoryBook } from './memory-book.ts';
import { redisBook } from './redis-book.ts';

export interface OpenBook {
  readonly book: QuotaBook;
  /** Where the book does not outlast the gateway: what was used before, as receipts say. */
  readonly usedSince?: (tenant: string, since: string) => Promise<Used>;
}

/** The book in memory, for one gateway; or in the Redis that gateways share, which need not stay. */
export function openBook({
  redis,
  monotonicMs,
  store,
}: {
  readonly redis: Redis | undefined;
  readonly monotonicMs: () => number;
  readonly store: Pick<Store, 'usedSince'>;
}): OpenBook {
  return redis === undefined
    ? { book: memoryBook(monotonicMs), usedSince: store.usedSince }
    : { book: redisBook(redis) };
}
