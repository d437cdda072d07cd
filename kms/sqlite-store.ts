import { DatabaseSync, type SQLInputValue, type SQLOutputValue } from 'node:sqlite';
import { CfnError, grantSchema } from '../proto/index.ts';
import { REFUSALS_KEPT } from './limits.ts';
import type { AuditEntry, KeyStore, StoredGrant, StoredLease, StoredModel } from './store.ts';

const SCHEMA_VERSION = 1;
/** Wait for another process that holds the file, in ms. */
const BUSY_MS_MAX = 5000;

/** `audit.refusal` counts refusals, so that old ones can be found by number. */
const SCHEMA = `
CREATE TABLE sealing_key (one INTEGER PRIMARY KEY CHECK (one = 1), publicKey TEXT NOT NULL, wrapped BLOB NOT NULL) STRICT;
CREATE TABLE owners (name TEXT PRIMARY KEY, tokenDigest BLOB NOT NULL, addedAt INTEGER NOT NULL) STRICT;
CREATE TABLE models (
  digest TEXT NOT NULL, owner TEXT NOT NULL REFERENCES owners (name), model TEXT NOT NULL, wrappedKey BLOB NOT NULL,
  storedAt INTEGER NOT NULL, PRIMARY KEY (digest, owner)
) STRICT;
CREATE TABLE grants (
  id TEXT PRIMARY KEY, digest TEXT NOT NULL, owner TEXT NOT NULL, content TEXT NOT NULL, endsAt INTEGER NOT NULL,
  grantedAt INTEGER NOT NULL, FOREIGN KEY (digest, owner) REFERENCES models (digest, owner)
) STRICT;
CREATE INDEX grants_of_model ON grants (digest, owner);
CREATE TABLE leases (
  id TEXT PRIMARY KEY, digest TEXT NOT NULL, owner TEXT NOT NULL, tenant TEXT NOT NULL, function TEXT NOT NULL, version TEXT NOT NULL,
  worker TEXT NOT NULL, receiptKey TEXT NOT NULL, tee TEXT NOT NULL, "grant" TEXT NOT NULL, evidence TEXT NOT NULL, policy TEXT NOT NULL,
  startedAt INTEGER NOT NULL, endsAt INTEGER NOT NULL, revokedAt INTEGER, droppedAt INTEGER, statement TEXT,
  FOREIGN KEY (digest, owner) REFERENCES models (digest, owner)
) STRICT;
CREATE INDEX leases_of_grant ON leases ("grant");
CREATE INDEX leases_of_owner ON leases (owner, startedAt);
CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, decision TEXT NOT NULL, code TEXT, digest TEXT, owner TEXT, tenant TEXT,
  function TEXT, version TEXT, worker TEXT, lease TEXT, "grant" TEXT, refusal INTEGER UNIQUE
) STRICT;
PRAGMA user_version = ${SCHEMA_VERSION};
`;

const LIVE = 'endsAt > :at AND revokedAt IS NULL AND droppedAt IS NULL';
const AUDITED = ['code', 'digest', 'owner', 'tenant', 'function', 'version', 'worker', 'lease', 'grant'] as const;

/**
 * The keyring in one SQLite file (WAL, synchronous=FULL: what was acknowledged outlives a power cut).
 *
 * @param path the file, or `:memory:`
 * @throws {CfnError} `CFN_STORE_FAILED` when the file cannot be opened or has another schema
 */
export function sqliteStore(path: string): KeyStore {
  const database = guarded(() => open(path));
  const run = (sql: string, values: Record<string, SQLInputValue>): number =>
    Number(database.prepare(sql).run(values).changes);
  const all = <T>(sql: string, values: Record<string, SQLInputValue>): T[] =>
    database
      .prepare(sql)
      .all(values)
      .map((row) => fromRow<T>(row));
  const one = <T>(sql: string, values: Record<string, SQLInputValue>): T | undefined => all<T>(sql, values)[0];

  /** One transaction; a throw undoes all of it. SQLite calls are synchronous, so nothing interleaves. */
  async function transact<T>(work: () => T): Promise<T> {
    return guarded(() => {
      database.exec('BEGIN IMMEDIATE');
      try {
        const result = work();
        database.exec('COMMIT');
        return result;
      } catch (error) {
        if (database.isTransaction) database.exec('ROLLBACK');
        throw error;
      }
    });
  }
  const read = async <T>(work: () => T): Promise<T> => guarded(work);

  function note(entry: AuditEntry, refusal: number | null = null): void {
    const values = Object.fromEntries(AUDITED.map((column) => [column, entry[column] ?? null]));
    run(
      `INSERT INTO audit (at, decision, code, digest, owner, tenant, function, version, worker, lease, "grant", refusal)
       VALUES (:at, :decision, :code, :digest, :owner, :tenant, :function, :version, :worker, :lease, :grant, :refusal)`,
      { ...values, at: entry.at, decision: entry.decision, refusal },
    );
  }
  function noteLease(decision: AuditEntry['decision'], id: string, at: number): void {
    const lease = one<StoredLease>('SELECT * FROM leases WHERE id = :id', { id });
    if (lease === undefined) return;
    const { digest, owner, tenant, version, worker, grant } = lease;
    note({ at, decision, digest, owner, tenant, function: lease.function, version, worker, grant, lease: id });
  }
  const grantCovers = (grant: string, endsAt: number): boolean =>
    one('SELECT id FROM grants WHERE id = :grant AND endsAt >= :endsAt', { grant, endsAt }) !== undefined;

  return {
    sealingKey: () => read(() => one('SELECT publicKey, wrapped FROM sealing_key', {})),
    addSealingKey: (publicKey, wrapped) =>
      transact(
        () =>
          void run('INSERT INTO sealing_key (one, publicKey, wrapped) VALUES (1, :publicKey, :wrapped)', {
            publicKey,
            wrapped,
          }),
      ),

    addOwner: (name, tokenDigest, at) =>
      transact(
        () =>
          run('INSERT INTO owners VALUES (:name, :tokenDigest, :at) ON CONFLICT DO NOTHING', {
            name,
            tokenDigest,
            at,
          }) === 1,
      ),
    ownerTokenDigest: (name) =>
      read(
        () =>
          one<{ tokenDigest: Uint8Array }>('SELECT tokenDigest FROM owners WHERE name = :name', { name })?.tokenDigest,
      ),

    addModel: (model) =>
      transact(() => {
        const { digest, owner, storedAt } = model;
        const sql =
          'INSERT INTO models VALUES (:digest, :owner, :model, :wrappedKey, :storedAt) ON CONFLICT DO NOTHING';
        if (run(sql, { ...model }) === 0) return false;
        note({ at: storedAt, decision: 'key-stored', digest, owner });
        return true;
      }),
    model: (digest, owner) =>
      read(() => one<StoredModel>('SELECT * FROM models WHERE digest = :digest AND owner = :owner', { digest, owner })),
    models: (owner) =>
      read(() =>
        all<StoredModel>('SELECT * FROM models WHERE :owner IS NULL OR owner = :owner ORDER BY model', {
          owner: owner ?? null,
        }),
      ),

    putGrant: (stored) =>
      transact(() => {
        const { id, digest, owner, grant, grantedAt } = stored;
        const endsAt = Date.parse(grant.until);
        run(
          `INSERT INTO grants VALUES (:id, :digest, :owner, :content, :endsAt, :grantedAt)
           ON CONFLICT (id) DO UPDATE SET content = excluded.content, endsAt = excluded.endsAt, grantedAt = excluded.grantedAt`,
          { id, digest, owner, content: JSON.stringify(grant), endsAt, grantedAt },
        );
        run('UPDATE leases SET endsAt = min(endsAt, :endsAt) WHERE "grant" = :id', { id, endsAt });
        const { tenant, version } = grant;
        note({
          at: grantedAt,
          decision: 'granted',
          digest,
          owner,
          tenant,
          function: grant.function,
          grant: id,
          ...(version && { version }),
        });
      }),
    grants: (digest, owner) =>
      read(() =>
        all<GrantRow>('SELECT * FROM grants WHERE digest = :digest AND owner = :owner ORDER BY grantedAt, id', {
          digest,
          owner,
        }).map(parseGrant),
      ),
    removeGrant: (id, digest, owner, at) =>
      transact(() => {
        if (
          run('DELETE FROM grants WHERE id = :id AND digest = :digest AND owner = :owner', { id, digest, owner }) === 0
        )
          return undefined;
        note({ at, decision: 'grant-removed', digest, owner, grant: id });
        const live = all<{ id: string }>(`SELECT id FROM leases WHERE "grant" = :id AND ${LIVE}`, { id, at });
        for (const lease of live) {
          run('UPDATE leases SET revokedAt = :at WHERE id = :id', { id: lease.id, at });
          noteLease('revoked', lease.id, at);
        }
        return live.length;
      }),

    addLease: (lease) =>
      transact(() => {
        if (!grantCovers(lease.grant, lease.endsAt)) return false;
        const {
          id,
          digest,
          owner,
          tenant,
          version,
          worker,
          receiptKey,
          tee,
          grant,
          evidence,
          policy,
          startedAt,
          endsAt,
        } = lease;
        run(
          `INSERT INTO leases (id, digest, owner, tenant, function, version, worker, receiptKey, tee, "grant", evidence, policy, startedAt, endsAt)
           VALUES (:id, :digest, :owner, :tenant, :function, :version, :worker, :receiptKey, :tee, :grant, :evidence, :policy, :startedAt, :endsAt)`,
          {
            id,
            digest,
            owner,
            tenant,
            function: lease.function,
            version,
            worker,
            receiptKey,
            tee,
            grant,
            evidence,
            policy,
            startedAt,
            endsAt,
          },
        );
        noteLease('released', id, startedAt);
        return true;
      }),
    renewLease: (id, { grant, endsAt, evidence, policy }, at) =>
      transact(() => {
        if (!grantCovers(grant, endsAt)) return false;
        const sql = `UPDATE leases SET "grant" = :grant, endsAt = :endsAt, evidence = :evidence, policy = :policy WHERE id = :id AND ${LIVE}`;
        if (run(sql, { id, grant, endsAt, evidence, policy, at }) === 0) return false;
        noteLease('renewed', id, at);
        return true;
      }),
    lease: (id) => read(() => one<StoredLease>('SELECT * FROM leases WHERE id = :id', { id })),
    leases: (owner, countMax) =>
      read(() =>
        all<StoredLease>(
          'SELECT * FROM leases WHERE :owner IS NULL OR owner = :owner ORDER BY startedAt DESC, rowid DESC LIMIT :countMax',
          {
            owner: owner ?? null,
            countMax,
          },
        ),
      ),
    revokeLease: (id, at) =>
      transact(() => {
        if (run(`UPDATE leases SET revokedAt = :at WHERE id = :id AND ${LIVE}`, { id, at }) === 0) return false;
        noteLease('revoked', id, at);
        return true;
      }),
    dropLease: (id, statement, at) =>
      transact(() => {
        const sql = 'UPDATE leases SET droppedAt = :at, statement = :statement WHERE id = :id AND droppedAt IS NULL';
        if (run(sql, { id, statement, at }) === 1) noteLease('dropped', id, at);
      }),

    addRefusal: (entry) =>
      transact(() => {
        const newest = one<{ refusal?: number }>('SELECT max(refusal) AS refusal FROM audit', {})?.refusal ?? 0;
        note({ ...entry, decision: 'refused' }, newest + 1);
        run('DELETE FROM audit WHERE refusal <= :old', { old: newest + 1 - REFUSALS_KEPT });
      }),
    audit: (countMax) =>
      read(() =>
        all<AuditEntry>(
          `SELECT at, decision, code, digest, owner, tenant, function, version, worker, lease, "grant" FROM audit ORDER BY id DESC LIMIT :countMax`,
          { countMax },
        ),
      ),
    close: () => database.close(),
  };
}

function open(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: BUSY_MS_MAX, enableForeignKeyConstraints: true });
  try {
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; BEGIN IMMEDIATE');
    const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
    if (version === 0) database.exec(SCHEMA);
    else if (version !== SCHEMA_VERSION)
      throw new CfnError('CFN_STORE_FAILED', `${path} has schema ${version}, expected ${SCHEMA_VERSION}`);
    database.exec('COMMIT');
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Turns what SQLite throws (full disk, no permission, damaged file) into our error; its message names no values. */
function guarded<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof CfnError) throw cause;
    throw new CfnError(
      'CFN_STORE_FAILED',
      `the keyring failed: ${(cause as { errstr?: string }).errstr ?? 'unknown'}`,
      { cause },
    );
  }
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

/** A row without its NULLs. T is what the SELECT names; STRICT tables hold the column types. */
function fromRow<T>(row: Record<string, SQLOutputValue>): T {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)) as T;
}
