import { z } from 'zod';
import { digestSchema, STATUS_ENTRIES_MAX } from '../../proto/index.ts';

const count = z.int().nonnegative().max(Number.MAX_SAFE_INTEGER);
const digests = z.array(digestSchema).max(STATUS_ENTRIES_MAX);

/**
 * What a worker says of itself. A hint: it steers requests among workers that were admitted, and admits nobody. A worker that lies gets
 * more or fewer requests than it should.
 */
export const workerHintSchema = z.object({
  inflight: count.default(0),
  /** Requests at once. */
  capacity: count.min(1).max(1_000_000),
  /** Function versions whose sandbox runs. */
  versions: z
    .array(z.object({ version: digestSchema, inflight: count.default(0) }))
    .max(STATUS_ENTRIES_MAX)
    .default([]),
  /** Models whose engine runs. */
  models: digests.default([]),
  memoryFree: count.default(0),
  memoryBudget: count.default(0),
  /** Takes no new request. */
  leaving: z.boolean().default(false),
});
export type WorkerHint = z.infer<typeof workerHintSchema>;
