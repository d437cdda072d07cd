import { CfnError, grantSchema, type AuditEntry } from '../proto/index.ts';
import type { Database } from './database.ts';
import { quotasOf } from './quotas.ts';
import type { AuditWriter } from './sqlite-audit.ts';
import type { LeaseStore, StoredGrant, StoredLease } from './store.ts';

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
] as const;
const ADD_LEASE = `INSERT INTO leases (${LEASE.map((name) => `"${name}"`).join(', ')}) VALUES (${LEASE.map((name) => `:${name}`).join(', ')})`;

/** Grants and leases. `revokeWhere` is for those who end leases for a reason of their own. */
export function sqliteLeases(
  database: Database,
  { note }: AuditWriter,
): LeaseStore & { readonly revokeWhere: (condition: string, values: Record<string, string>, at: number) => number } {
  const { run, all, one, transact, read } = database;

  function noteLease(decision: AuditEntry['decision'], id: string, at: number): void {
    const lease = one<StoredLease>('SELECT * FROM leases WHERE id = :id', { id });
    if (lease === undefined) return;
    const { digest, owner, tenant, version, worker, grant } = lease;
    note(owner, { at: iso(at), decision, digest, tenant, function: lease.function, version, worker, grant, lease: id });
  }
  function revokeWhere(condition: string, values: Record<string, string>, at: number): number {
    const live = all<{ id: string }>(`SELECT id FROM leases WHERE ${condition} AND ${LIVE}`, { ...values, at });
    for (const { id } of live) {
      run('UPDATE leases SET revokedAt = :at WHERE id = :id', { id, at });
      noteLease('revoked', id, at);
    }
    return live.length;
  }
  /** Grant, model and function version may have changed since they were read. */
  const covered = (lease: Pick<StoredLease, 'digest' | 'owner' | 'version' | 'grant' | 'endsAt'>): boolean =>
    one('SELECT 1 FROM grants WHERE id = :grant AND endsAt >= :endsAt', {
      grant: lease.grant,
      endsAt: lease.endsAt,
    }) !== undefined &&
    one('SELECT 1 FROM models WHERE digest = :digest AND owner = :owner AND withdrawnAt IS NULL', {
      digest: lease.digest,
      owner: lease.owner,
    }) !== undefined &&
    one('SELECT 1 FROM withdrawn WHERE version = :version', { version: lease.version }) === undefined;
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
        run('UPDATE leases SET endsAt = min(endsAt, :endsAt) WHERE "grant" = :id', { id, endsAt });
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
        note(owner, { at: iso(at), decision: 'grant-removed', digest, grant: id });
        return revokeWhere('"grant" = :id', { id }, at);
      }),

    addLease: (lease) =>
      transact(() => {
        if (!covered(lease)) return false;
        demandRoom(
          lease.owner,
          'leases',
          `SELECT count(*) AS count FROM leases WHERE owner = :owner AND ${LIVE}`,
          lease.startedAt,
        );
        run(ADD_LEASE, Object.fromEntries(LEASE.map((name) => [name, lease[name]])));
        noteLease('released', lease.id, lease.startedAt);
        return true;
      }),
    renewLease: (id, { grant, endsAt, evidence, policy }, at) =>
      transact(() => {
        const lease = one<StoredLease>('SELECT * FROM leases WHERE id = :id', { id });
        if (lease === undefined || !covered({ ...lease, grant, endsAt })) return false;
        const sql = `UPDATE leases SET "grant" = :grant, endsAt = :endsAt, evidence = :evidence, policy = :policy WHERE id = :id AND ${LIVE}`;
        if (run(sql, { id, grant, endsAt, evidence, policy, at }) === 0) return false;
        noteLease('renewed', id, at);
        return true;
      }),
    lease: (id) => read(() => one<StoredLease>('SELECT * FROM leases WHERE id = :id', { id })),
    leases: (owner, countMax) =>
      read(() => {
        const newest = 'ORDER BY startedAt DESC, rowid DESC LIMIT :countMax';
        return owner === undefined
          ? all<StoredLease>(`SELECT * FROM leases ${newest}`, { countMax })
          : all<StoredLease>(`SELECT * FROM leases WHERE owner = :owner ${newest}`, { owner, countMax });
      }),
    revokeLease: (id, at) =>
      transact(() => {
        if (run(`UPDATE leases SET revokedAt = :at WHERE id = :id AND ${LIVE}`, { id, at }) === 0) return false;
        noteLease('revoked', id, at);
        return true;
      }),
    endAllLeases: (at) =>
      transact(() => {
        const logs = all<{ owner: string }>('SELECT DISTINCT owner FROM audit', {});
        for (const { owner } of logs) note(owner, { at: iso(at), decision: 'restored' });
        return revokeWhere('TRUE', {}, at);
      }),
    dropLease: (id, statement, at) =>
      transact(() => {
        const sql = 'UPDATE leases SET droppedAt = :at, statement = :statement WHERE id = :id AND droppedAt IS NULL';
        if (run(sql, { id, statement, at }) === 1) noteLease('dropped', id, at);
      }),
  };
}

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
