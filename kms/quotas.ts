import { quotasSchema, type Quotas } from '../proto/index.ts';
import type { Database } from './database.ts';
import { DEFAULT_QUOTAS } from './limits.ts';

/** Inside of a transaction. */
export function quotasOf(database: Database, owner: string): Quotas {
  const row = database.one<{ quotas?: string }>('SELECT quotas FROM owners WHERE name = :owner', { owner });
  return row?.quotas === undefined ? DEFAULT_QUOTAS : quotasSchema.parse(JSON.parse(row.quotas));
}
