import { CfnError, grantSchema, type AuditEntry } from '../proto/index.ts';
import type { Database } from './database.ts';
import { quotasOf } from './quotas.ts';
import type { AuditWriter } from './sqlite-audit.ts';
import { sqliteAllowances } from './sqlite-allowances.ts';
import {
  isLive,
  type EndedEarly,
  type LeaseStore,
  type NewLease,
  type StoredGrant,
  type StoredLease,
} from './store.ts';

const LIVE = 'endsAt > :at AND revokedAt IS NULL AND droppedAt IS NULL';
const LEASE = [
  'id',
  'digest',
  'owner',
  'tenant',
  'function',
  'version',
  'worker',
  'receiptKey',
  'tee',
  'grant',
  'evidence',
  'policy',
  'keyVersion',
  'startedAt',
  'endsAt',
] as const satisfies readonly (keyof NewLease)[];
const ADD_LEASE = `INSERT INTO leases (${LEASE.map((name) => `"${name}"`).join(', ')}, allowed)
  VALUES (${LEASE.map((name) => `:${name}`).join(', ')}, :allowed)`;

/** Grants and leases. `revokeWhere` is for those who end leases for a reason of their own. */
export function sqliteLeases(
  database: Database,
  { note }: AuditWriter,
): LeaseStore & { readonly revokeWhere: (condition: string, values: Record<string, string>, at: number) => number } {
  const { run, all, one, transact, read, afterCommit } = database;
  const allowances = sqliteAllowances(database);
  const leaseOf = (id: string): StoredLease | undefined =>
    one<StoredLease>('SELECT * FROM leases WHERE id = :id', { id });
  const listeners: ((lease: EndedEarly) => void)[] = [];
  const tell = (lease: EndedEarly): void =>
    afterCommit(() => {
      for (const listener of listeners) listener(lease);
    });

  function noteLease(decision: AuditEntry['decision'], lease: StoredLease | undefined, at: number): void {
    if (lease === undefined) return;
    const { digest, owner, tenant, version, worker, grant, used, allowed } = lease;
    const counted = { ...(used > 0 && { used }), ...(allowed !== undefined && { allowed }) };
    const what = { digest, tenant, function: lease.function, version, worker, grant, lease: lease.id, ...counted };
    note(owner, { at: iso(at), decision, ...what });
  }
  function revokeWhere(condition: string, values: Record<string, string>, at: number): number {
    const live = all<StoredLease>(`SELECT * FROM leases WHERE ${condition} AND ${LIVE}`, { ...values, at });
    for (const lease of live) {
      run('UPDATE leases SET revokedAt = :at WHERE id = :id', { id: lease.id, at });
      noteLease('revoked', lease, at);
      tell({ ...lease, revokedAt: at });
    }
    return live.length;
  }
  /** Grant, model, secrets and function version may have changed since they were read. */
  const covered = (lease: Pick<StoredLease, 'digest' | 'owner' | 'version' | 'grant' | 'endsAt'>): boolean =>
    (granted(lease) ||
      one('SELECT 1 FROM secret_sets WHERE revision = :grant AND id = :digest AND owner = :owner', keyOf(lease)) !==
        undefined) &&
    one('SELECT 1 FROM withdrawn WHERE version = :version', { version: lease.version }) === undefined;
  const granted = (lease: Pick<StoredLease, 'digest' | 'owner' | 'grant' | 'endsAt'>): boolean =>
    one('SELECT 1 FROM grants WHERE id = :grant AND digest = :digest AND owner = :owner AND endsAt >= :endsAt', {
      ...keyOf(lease),
      endsAt: lease.endsAt,
    }) !== undefined &&
    one('SELECT 1 FROM models WHERE digest = :digest AND owner = :owner AND withdrawnAt IS NULL', {
      digest: lease.digest,
      owner: lease.owner,
    }) !== undefined;
  function demandRoom(owner: string, what: 'grants' | 'leases', sql: string, at: number): void {
    const limit = quotasOf(database, owner)[what];
    const { count = 0 } = one<{ count: number }>(sql, sql.includes(':at') ? { owner, at } : { owner }) ?? {};
    if (count >= limit)
      throw new CfnError('CFN_QUOTA_EXCEEDED', `the namespace has ${limit} ${what}, the most it may have`);
  }

  return {
    revokeWhere,
    putGrant: (stored) =>
      transact(() => {
        const { id, digest, owner, grant, grantedAt } = stored;
        const endsAt = Date.parse(grant.until);
        if (one('SELECT 1 FROM grants WHERE id = :id', { id }) === undefined)
          demandRoom(owner, 'grants', 'SELECT count(*) AS count FROM grants WHERE owner = :owner', grantedAt);
        run(
          `INSERT INTO grants VALUES (:id, :digest, :owner, :content, :endsAt, :grantedAt)
           ON CONFLICT (id) DO UPDATE SET content = excluded.content, endsAt = excluded.endsAt, grantedAt = excluded.grantedAt`,
          { id, digest, owner, content: JSON.stringify(grant), endsAt, grantedAt },
        );
        allowances.begin(id, grantedAt);
        const longer = all<StoredLease>(`SELECT * FROM leases WHERE "grant" = :id AND endsAt > :endsAt AND ${LIVE}`, {
          id,
          endsAt,
          at: grantedAt,
        });
        for (const lease of longer) {
          run('UPDATE leases SET endsAt = :endsAt WHERE id = :id', { id: lease.id, endsAt });
          tell({ ...lease, endsAt });
        }
        // Who was given no count cannot keep to one.
        if (grant.maxInvocations !== undefined) revokeWhere('"grant" = :id AND allowed IS NULL', { id }, grantedAt);
        const { tenant, version } = grant;
        const granted = { tenant, function: grant.function, grant: id, ...(version && { version }) };
        note(owner, { at: iso(grantedAt), decision: 'granted', digest, ...granted });
      }),
    grants: (digest, owner) =>
      read(() => {
        const sql = 'SELECT * FROM grants WHERE digest = :digest AND owner = :owner ORDER BY grantedAt, id';
        return all<GrantRow>(sql, { digest, owner }).map(parseGrant);
      }),
    removeGrant: (id, digest, owner, at) =>
      transact(() => {
        const key = { id, digest, owner };
        if (run('DELETE FROM grants WHERE id = :id AND digest = :digest AND owner = :owner', key) === 0)
          return undefined;
        allowances.forget(id);
        note(owner, { at: iso(at), decision: 'grant-removed', digest, grant: id });
        return revokeWhere('"grant" = :id', { id }, at);
      }),

    addLease: (lease) =>
      transact(() => {
        if (!covered(lease)) return undefined;
        demandRoom(
          lease.owner,
          'leases',
          `SELECT count(*) AS count FROM leases WHERE owner = :owner AND ${LIVE}`,
          lease.startedAt,
        );
        const allowed = allowances.first(lease.grant, lease.startedAt);
        run(ADD_LEASE, { ...Object.fromEntries(LEASE.map((name) => [name, lease[name]])), allowed: allowed ?? null });
        const added: StoredLease = { ...lease, used: 0, ...(allowed !== undefined && { allowed }) };
        noteLease('released', added, lease.startedAt);
        return added;
      }),
    renewLease: (id, term, at, stated) =>
      transact(() => {
        const lease = leaseOf(id);
        if (lease === undefined || !isLive(lease, at) || !covered({ ...lease, ...term })) return undefined;
        const { grant, endsAt, evidence, policy } = term;
        // What was counted under one grant is not another's; the worker may ask anew.
        if (grant !== lease.grant && (lease.allowed !== undefined || allowances.isLimited(grant))) return undefined;
        const used = stated?.used ?? lease.used;
        const allowed = allowances.more(lease, used);
        run(
          `UPDATE leases SET "grant" = :grant, endsAt = :endsAt, evidence = :evidence, policy = :policy,
             used = :used, allowed = :allowed, usage = coalesce(:usage, usage) WHERE id = :id`,
          { id, grant, endsAt, evidence, policy, used, allowed: allowed ?? null, usage: stated?.statement ?? null },
        );
        const renewed = leaseOf(id);
        noteLease('renewed', renewed, at);
        return renewed;
      }),
    count: (grant, at) => read(() => allowances.count(grant, at)),
    watchEnds: (listener) => void listeners.push(listener),
    lease: (id) => read(() => leaseOf(id)),
    receiptKeyOf: (worker, at) =>
      read(() => {
        const sql = `SELECT receiptKey FROM leases WHERE worker = :worker AND ${LIVE} LIMIT 1`;
        return one<{ receiptKey: string }>(sql, { worker, at })?.receiptKey;
      }),
    leases: (owner, countMax) =>
      read(() => {
        const newest = 'ORDER BY startedAt DESC, rowid DESC LIMIT :countMax';
        return owner === undefined
          ? all<StoredLease>(`SELECT * FROM leases ${newest}`, { countMax })
          : all<StoredLease>(`SELECT * FROM leases WHERE owner = :owner ${newest}`, { owner, countMax });
      }),
    revokeLease: (id, at) => transact(() => revokeWhere('id = :id', { id }, at) === 1),
    endAllLeases: (at) =>
      transact(() => {
        const logs = all<{ owner: string }>('SELECT DISTINCT owner FROM audit', {});
        for (const { owner } of logs) note(owner, { at: iso(at), decision: 'restored' });
        return revokeWhere('TRUE', {}, at);
      }),
    dropLease: (id, statement, at, stated) =>
      transact(() => {
        const lease = leaseOf(id);
        if (lease === undefined || lease.droppedAt !== undefined) return;
        const used = allowances.settle(lease, stated);
        run('UPDATE leases SET droppedAt = :at, statement = :statement, used = :used WHERE id = :id', {
          id,
          statement,
          at,
          used,
        });
        noteLease('dropped', { ...lease, used }, at);
      }),
  };
}

/** What a lease is on, and whose that is: a grant on something else is not its grant. */
const keyOf = ({ grant, digest, owner }: Pick<StoredLease, 'digest' | 'owner' | 'grant'>): Record<string, string> => ({
  grant,
  digest,
  owner,
});
interface GrantRow extends Omit<StoredGrant, 'grant'> {
  readonly content: string;
}
const parseGrant = ({ id, digest, owner, content, grantedAt }: GrantRow): StoredGrant => ({
  id,
  digest,
  owner,
  grant: grantSchema.parse(JSON.parse(content)),
  grantedAt,
});
const iso = (at: number): string => new Date(at).toISOString();
