import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { CfnError } from '../proto/index.ts';

/** Wait for another process that holds the file, in ms. */
const BUSY_MS_MAX = 5000;

const FIRST_VERSION = 2;
const FIRST_SCHEMA = `
CREATE TABLE secrets (name TEXT PRIMARY KEY, publicKey TEXT NOT NULL, wrapped BLOB NOT NULL) STRICT;
CREATE TABLE owners (name TEXT PRIMARY KEY, policy TEXT, quotas TEXT, addedAt INTEGER NOT NULL) STRICT;
CREATE TABLE tokens (
  id TEXT NOT NULL, owner TEXT NOT NULL REFERENCES owners (name), role TEXT NOT NULL, digest BLOB NOT NULL, madeAt INTEGER NOT NULL,
  PRIMARY KEY (owner, id)
) STRICT;
CREATE TABLE namespace_keys (
  owner TEXT NOT NULL REFERENCES owners (name), version INTEGER NOT NULL, wrapped BLOB NOT NULL, madeAt INTEGER NOT NULL,
  retiredAt INTEGER, PRIMARY KEY (owner, version)
) STRICT;
CREATE TABLE models (
  digest TEXT NOT NULL, owner TEXT NOT NULL REFERENCES owners (name), model TEXT NOT NULL, wrappedKey BLOB NOT NULL,
  keyVersion INTEGER NOT NULL, storedAt INTEGER NOT NULL, withdrawnAt INTEGER, PRIMARY KEY (digest, owner)
) STRICT;
CREATE INDEX models_of_owner ON models (owner);
CREATE TABLE grants (
  id TEXT PRIMARY KEY, digest TEXT NOT NULL, owner TEXT NOT NULL, content TEXT NOT NULL, endsAt INTEGER NOT NULL,
  grantedAt INTEGER NOT NULL, FOREIGN KEY (digest, owner) REFERENCES models (digest, owner)
) STRICT;
CREATE INDEX grants_of_model ON grants (digest, owner);
CREATE INDEX grants_of_owner ON grants (owner);
CREATE TABLE leases (
  id TEXT PRIMARY KEY, digest TEXT NOT NULL, owner TEXT NOT NULL, tenant TEXT NOT NULL, function TEXT NOT NULL, version TEXT NOT NULL,
  worker TEXT NOT NULL, receiptKey TEXT NOT NULL, tee TEXT NOT NULL, "grant" TEXT NOT NULL, evidence TEXT NOT NULL, policy TEXT NOT NULL,
  keyVersion INTEGER NOT NULL, startedAt INTEGER NOT NULL, endsAt INTEGER NOT NULL, revokedAt INTEGER, droppedAt INTEGER, statement TEXT,
  FOREIGN KEY (digest, owner) REFERENCES models (digest, owner)
) STRICT;
CREATE INDEX leases_of_grant ON leases ("grant");
CREATE INDEX leases_of_version ON leases (version);
CREATE INDEX leases_of_owner ON leases (owner, startedAt);
CREATE INDEX leases_by_end ON leases (owner, endsAt);
CREATE TABLE withdrawn (version TEXT PRIMARY KEY, author TEXT NOT NULL, statement TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE TABLE audit (owner TEXT NOT NULL, seq INTEGER NOT NULL, entry TEXT NOT NULL, hash BLOB NOT NULL, PRIMARY KEY (owner, seq)) STRICT;
CREATE TABLE checkpoints (owner TEXT NOT NULL, seq INTEGER NOT NULL, statement TEXT NOT NULL, PRIMARY KEY (owner, seq)) STRICT;
`;
/** What each later version changed; a keyring of an earlier one is brought up to date when it is opened. */
const STEPS: readonly string[] = [
  // Invocations: under each lease, and of each grant; `taken` is what leases were allowed, less what they gave back.
  `ALTER TABLE leases ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
   ALTER TABLE leases ADD COLUMN allowed INTEGER;
   ALTER TABLE leases ADD COLUMN usage TEXT;
   CREATE INDEX leases_of_worker ON leases (worker);
   CREATE TABLE grant_counts ("grant" TEXT PRIMARY KEY, since INTEGER NOT NULL, used INTEGER NOT NULL, taken INTEGER NOT NULL) STRICT;`,
  // What owners keep for clients of the key broker protocol.
  `CREATE TABLE resources (
     owner TEXT NOT NULL REFERENCES owners (name), type TEXT NOT NULL, tag TEXT NOT NULL, wrapped BLOB NOT NULL, bytes INTEGER NOT NULL,
     keyVersion INTEGER NOT NULL, terms TEXT NOT NULL, storedAt INTEGER NOT NULL, PRIMARY KEY (owner, type, tag)
   ) STRICT;`,
  // Secrets of functions. Leases are on them, too, so that "digest" names no model for certain; the index of live ones is what quotas count.
  `CREATE TABLE leases_of_both (
     id TEXT PRIMARY KEY, digest TEXT NOT NULL, owner TEXT NOT NULL, tenant TEXT NOT NULL, function TEXT NOT NULL, version TEXT NOT NULL,
     worker TEXT NOT NULL, receiptKey TEXT NOT NULL, tee TEXT NOT NULL, "grant" TEXT NOT NULL, evidence TEXT NOT NULL, policy TEXT NOT NULL,
     keyVersion INTEGER NOT NULL, startedAt INTEGER NOT NULL, endsAt INTEGER NOT NULL, revokedAt INTEGER, droppedAt INTEGER, statement TEXT,
     used INTEGER NOT NULL DEFAULT 0, allowed INTEGER, usage TEXT
   ) STRICT;
   INSERT INTO leases_of_both SELECT * FROM leases;
   DROP TABLE leases;
   ALTER TABLE leases_of_both RENAME TO leases;
   CREATE INDEX leases_of_grant ON leases ("grant");
   CREATE INDEX leases_of_version ON leases (version);
   CREATE INDEX leases_of_owner ON leases (owner, startedAt);
   CREATE INDEX leases_of_worker ON leases (worker);
   CREATE INDEX leases_of_digest ON leases (digest);
   CREATE INDEX leases_live ON leases (owner, endsAt) WHERE revokedAt IS NULL AND droppedAt IS NULL;
   CREATE TABLE secret_sets (
     id TEXT PRIMARY KEY, owner TEXT NOT NULL REFERENCES owners (name), tenant TEXT NOT NULL, function TEXT NOT NULL, revision TEXT NOT NULL
   ) STRICT;
   CREATE INDEX secret_sets_of_owner ON secret_sets (owner);
   CREATE INDEX secret_sets_by_revision ON secret_sets (revision);
   CREATE TABLE function_secrets (
     id TEXT NOT NULL REFERENCES secret_sets (id), name TEXT NOT NULL, wrapped BLOB NOT NULL, keyVersion INTEGER NOT NULL,
     author TEXT NOT NULL, version TEXT, leaseMs INTEGER NOT NULL, storedAt INTEGER NOT NULL, PRIMARY KEY (id, name)
   ) STRICT;`,
  // Each grant has its count from when it is made, and no other has one; what was used without a limit is taken, too.
  `DELETE FROM grant_counts WHERE "grant" NOT IN (SELECT id FROM grants);
   UPDATE grant_counts SET taken = max(taken, used);
   INSERT OR IGNORE INTO grant_counts SELECT id, grantedAt, 0, 0 FROM grants;`,
];
const SCHEMA_VERSION = FIRST_VERSION + STEPS.length;

type Values = Record<string, SQLInputValue>;

/** One SQLite file (WAL, synchronous=FULL: what was acknowledged outlives a power cut). Failures are `CFN_STORE_FAILED`. */
export interface Database {
  /** @returns how many rows changed */
  readonly run: (sql: string, values: Values) => number;
  /** Rows without their NULLs. T is what the SELECT names; STRICT tables hold the column types. */
  readonly all: <T>(sql: string, values: Values) => T[];
  readonly one: <T>(sql: string, values: Values) => T | undefined;
  /**
   * One transaction; a throw undoes all of it. The calls inside are synchronous, so nothing interleaves. Those that wait at the same
   * time are committed together, for that is what takes long; each promise resolves after the commit, and never before.
   */
  readonly transact: <T>(work: () => T) => Promise<T>;
  /** Once: does this at the end of every commit, inside of it. */
  readonly beforeCommit: (work: () => void) => void;
  /** Inside of a transaction: does this once it is on the disk, and never where it was undone. */
  readonly afterCommit: (work: () => void) => void;
  readonly read: <T>(work: () => T) => Promise<T>;
  /** Copies all of one moment to a new file. */
  copyTo(path: string): void;
  close(): void;
}

/** A transaction that waits for the next commit. */
interface Waiting {
  /** Does the work; answers what to do when that is on the disk. */
  readonly work: () => () => void;
  readonly reject: (error: unknown) => void;
}

/**
 * @param path the file, or `:memory:`
 * @throws {CfnError} `CFN_STORE_FAILED` when the file cannot be opened or has another schema
 */
export function openDatabase(path: string): Database {
  const database = guarded(() => open(path));
  /** By its SQL, which is our own text: there are some dozens. */
  const prepared = new Map<string, StatementSync>();
  function statement(sql: string): StatementSync {
    const known = prepared.get(sql) ?? database.prepare(sql);
    prepared.set(sql, known);
    return known;
  }
  const run = (sql: string, values: Values): number => Number(statement(sql).run(values).changes);
  const all = <T>(sql: string, values: Values): T[] =>
    statement(sql)
      .all(values)
      .map((row) => fromRow<T>(row));

  const waiting: Waiting[] = [];
  const closing: (() => void)[] = [];
  let following: (() => void)[] = [];

  /** A transaction inside of the one that is committed; its failure leaves the others as they are. */
  function runOne({ work, reject }: Waiting): (() => void)[] {
    following = [];
    run('SAVEPOINT one', {});
    try {
      const done = guarded(work);
      return [...following, done];
    } catch (error) {
      if (!database.isTransaction) throw error; // SQLite has undone all of it, as on a full disk
      run('ROLLBACK TO one', {});
      reject(error);
      return [];
    } finally {
      if (database.isTransaction) run('RELEASE one', {});
    }
  }
  function commitWaiting(): void {
    const batch = waiting.splice(0);
    if (batch.length === 0) return;
    let done: (() => void)[] = [];
    try {
      guarded(() => {
        run('BEGIN IMMEDIATE', {});
        done = batch.flatMap(runOne);
        for (const work of closing) work();
        run('COMMIT', {});
      });
    } catch (error) {
      if (database.isTransaction) run('ROLLBACK', {});
      for (const { reject } of batch) reject(error);
      return;
    }
    for (const each of done) each();
  }

  return {
    run,
    all,
    one: <T>(sql: string, values: Values) => all<T>(sql, values)[0],
    transact: <T>(work: () => T) =>
      new Promise<T>((resolve, reject) => {
        waiting.push({
          work: () => {
            const result = work();
            return () => resolve(result);
          },
          reject,
        });
        if (waiting.length === 1) setImmediate(commitWaiting);
      }),
    beforeCommit: (work) => void closing.push(work),
    afterCommit: (work) => void following.push(work),
    read: async (work) => guarded(work),
    copyTo: (to) => guarded(() => void database.prepare('VACUUM INTO ?').run(to)),
    close: () => {
      commitWaiting();
      database.close();
    },
  };
}

function open(path: string): DatabaseSync {
  const database = new DatabaseSync(path, { timeout: BUSY_MS_MAX, enableForeignKeyConstraints: true });
  try {
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; BEGIN IMMEDIATE');
    const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
    if (version !== 0 && (version < FIRST_VERSION || version > SCHEMA_VERSION))
      throw new CfnError('CFN_STORE_FAILED', `${path} has schema ${version}, expected ${SCHEMA_VERSION}`);
    if (version === 0) database.exec(FIRST_SCHEMA);
    for (const step of STEPS.slice(Math.max(0, version - FIRST_VERSION))) database.exec(step);
    database.exec(`PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`);
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
    const reason = (cause as { errstr?: string }).errstr ?? 'unknown';
    throw new CfnError('CFN_STORE_FAILED', `the keyring failed: ${reason}`, { cause });
  }
}

function fromRow<T>(row: Record<string, SQLOutputValue>): T {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)) as T;
}
