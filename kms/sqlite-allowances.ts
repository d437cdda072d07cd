import { CfnError } from '../proto/index.ts';
import type { Database } from './database.ts';
import type { GrantCount, StoredLease } from './store.ts';

/** One lease gets this part of what is left, so that many workers find something, and one that ends without a word loses little. */
const SLICE_PART = 8;
const SLICE_MAX = 10_000;
const sliceOf = (left: number): number => Math.min(SLICE_MAX, Math.ceil(left / SLICE_PART));

/**
 * Counts invocations under grants, inside of transactions. What a lease may use is taken from the grant before the worker hears of it; a
 * signed statement alone gives some back. A lease without a limit takes what it states that it used, so that a limit set later counts it.
 */
export interface Allowances {
  /** Counts from 0 under a grant that is new, and goes on under one that is put again. */
  begin(grant: string, at: number): void;
  /** @returns what the lease may use, `undefined`: no limit @throws {CfnError} `CFN_ALLOWANCE_SPENT`, `CFN_ALLOWANCE_WAITING` */
  first(grant: string, at: number): number | undefined;
  /** Notes what was used, and takes more where half of a slice is left. @returns what the lease may now use, all in all */
  more(lease: StoredLease, used: number): number | undefined;
  /** Notes what was used in the end, and gives back the rest. @returns what was used */
  settle(lease: StoredLease, used: number | undefined): number;
  count(grant: string, at: number): GrantCount;
  isLimited(grant: string): boolean;
  /** A grant that is made anew counts anew. */
  forget(grant: string): void;
}

export function sqliteAllowances({ run, one }: Database): Allowances {
  const limitOf = (grant: string): number | undefined =>
    one<{ limit?: number }>(
      `SELECT json_extract(content, '$.maxInvocations') AS "limit" FROM grants WHERE id = :grant`,
      {
        grant,
      },
    )?.limit;
  const totals = (grant: string): { readonly used: number; readonly taken: number } =>
    one('SELECT used, taken FROM grant_counts WHERE "grant" = :grant', { grant }) ?? { used: 0, taken: 0 };

  /** @param heldUntil only where the count began before: a lease that ended with a removed grant changes nothing of the one made after it */
  function add(grant: string, used: number, taken: number, heldUntil = Number.MAX_SAFE_INTEGER): void {
    run(
      'UPDATE grant_counts SET used = used + :used, taken = taken + :taken WHERE "grant" = :grant AND since < :heldUntil',
      { grant, used, taken, heldUntil },
    );
  }
  function count(grant: string, at: number): GrantCount {
    const live = one<{ sum?: number }>(
      `SELECT sum(allowed - used) AS sum FROM leases
       WHERE "grant" = :grant AND endsAt > :at AND revokedAt IS NULL AND droppedAt IS NULL`,
      { grant, at },
    );
    return { ...totals(grant), outstanding: live?.sum ?? 0 };
  }

  return {
    begin: (grant, at) =>
      void run('INSERT INTO grant_counts VALUES (:grant, :at, 0, 0) ON CONFLICT DO NOTHING', { grant, at }),
    count,
    isLimited: (grant) => limitOf(grant) !== undefined,
    first(grant, at) {
      const limit = limitOf(grant);
      if (limit === undefined) return undefined;
      const slice = sliceOf(Math.max(0, limit - totals(grant).taken));
      if (slice === 0) {
        if (count(grant, at).outstanding > 0)
          throw new CfnError('CFN_ALLOWANCE_WAITING', "the rest of the grant's invocations is with other workers");
        throw new CfnError('CFN_ALLOWANCE_SPENT', `the ${limit} invocations of the grant are used up`);
      }
      add(grant, 0, slice);
      return slice;
    },
    more(lease, used) {
      const { grant, allowed } = lease;
      if (used < lease.used || used > (allowed ?? Infinity))
        throw new CfnError('CFN_RECEIPT_INVALID', 'the worker states less use than before, or more than was allowed');
      const limit = limitOf(grant);
      if (allowed === undefined || limit === undefined) {
        add(grant, used - lease.used, used - (allowed ?? lease.used));
        return undefined;
      }
      const unused = allowed - used;
      const left = Math.max(0, limit - totals(grant).taken);
      const slice = Math.min(left, Math.max(0, sliceOf(left + unused) - unused));
      add(grant, used - lease.used, slice);
      return allowed + slice;
    },
    settle(lease, stated) {
      const { grant, allowed, endsAt, revokedAt = endsAt } = lease;
      const most = allowed ?? Infinity;
      const used = Math.max(lease.used, Math.min(stated ?? allowed ?? lease.used, most));
      add(grant, used - lease.used, used - (allowed ?? lease.used), Math.min(endsAt, revokedAt));
      return used;
    },
    forget: (grant) => void run('DELETE FROM grant_counts WHERE "grant" = :grant', { grant }),
  };
}
