import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { CfnError, equalBytes } from '../proto/index.ts';
import { LIST_MAX } from './limits.ts';
import type { FunctionRecord, FunctionVersion, LedgerEntry, ModelRecord, Store, UsageRow } from './store.ts';

const SCHEMA = `
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA busy_timeout = 5000;
PRAGMA foreign_keys = ON;
CREATE TABLE IF NOT EXISTS tenants (name TEXT PRIMARY KEY, created_at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS models (
  model TEXT PRIMARY KEY, digest TEXT NOT NULL, manifest BLOB NOT NULL, created_at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS versions (
  version TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, jws TEXT NOT NULL, bundle BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS functions (
  tenant TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL REFERENCES versions (version), deployed_at TEXT NOT NULL,
  PRIMARY KEY (tenant, name)) STRICT;
CREATE TABLE IF NOT EXISTS receipts (
  id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, worker TEXT NOT NULL,
  issued_at TEXT NOT NULL, outcome TEXT NOT NULL, cpu_ms REAL NOT NULL, engine_ms REAL NOT NULL,
  request_bytes INTEGER NOT NULL, response_bytes INTEGER NOT NULL, jws TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS receipts_by_function ON receipts (tenant, name);
CREATE TABLE IF NOT EXISTS evidence (digest TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS consents (subject TEXT PRIMARY KEY, admitted INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS worker_addresses (address TEXT PRIMARY KEY) STRICT;
`;

const USAGE = `SELECT tenant, name, count(*) AS requests, sum(outcome <> 'ok') AS failed, sum(cpu_ms) AS cpuMs,
  sum(engine_ms) AS engineMs, sum(request_bytes) AS requestBytes, sum(response_bytes) AS responseBytes FROM receipts`;

/** The store on one machine: a SQLite file in WAL mode, with an fsync for each transaction. */
export function sqliteStore(path: string): Store {
  const database = open(path);
  const prepared = new Map<string, ReturnType<DatabaseSync['prepare']>>();
  const statement = (sql: string): ReturnType<DatabaseSync['prepare']> => {
    let found = prepared.get(sql);
    if (found === undefined) prepared.set(sql, (found = database.prepare(sql)));
    return found;
  };
  const run = (sql: string, ...values: SQLInputValue[]): number => Number(statement(sql).run(...values).changes);
  // SQLite's STRICT tables hold the column types, so a row has the shape of its SELECT.
  const one = <T>(sql: string, ...values: SQLInputValue[]): T | undefined =>
    statement(sql).get(...values) as T | undefined;
  const all = <T>(sql: string, ...values: SQLInputValue[]): T[] => statement(sql).all(...values) as T[];
  const transaction = <T>(work: () => T): T => {
    database.exec('BEGIN IMMEDIATE');
    try {
      const result = work();
      database.exec('COMMIT');
      return result;
    } catch (cause) {
      database.exec('ROLLBACK');
      throw cause;
    }
  };

  return {
    addTenant: guarded((tenant) => {
      const added = run(
        'INSERT OR IGNORE INTO tenants (name, created_at) VALUES (?, ?)',
        tenant.name,
        tenant.createdAt,
      );
      if (added === 0) throw new CfnError('CFN_CONFLICT', `tenant ${tenant.name} exists`);
    }),
    hasTenant: guarded((name) => one('SELECT 1 FROM tenants WHERE name = ?', name) !== undefined),

    addModel: guarded((record, manifest) => {
      const { model, digest, createdAt } = record;
      const sql = 'INSERT OR IGNORE INTO models (model, digest, manifest, created_at) VALUES (?, ?, ?, ?)';
      if (run(sql, model, digest, manifest, createdAt) === 1) return true;
      const held = one<{ manifest: Uint8Array }>('SELECT manifest FROM models WHERE model = ?', model);
      if (held === undefined || !equalBytes(held.manifest, manifest)) {
        throw new CfnError('CFN_CONFLICT', `model ${model} exists with other content`);
      }
      return false;
    }),
    models: guarded(() =>
      all<ModelRecord>('SELECT model, digest, created_at AS createdAt FROM models ORDER BY model LIMIT ?', LIST_MAX),
    ),
    model: guarded((reference) =>
      one<{ digest: string; manifest: Uint8Array }>('SELECT digest, manifest FROM models WHERE model = ?', reference),
    ),

    addVersion: guarded((it: FunctionVersion, deployedAt: string) =>
      transaction(() => {
        const insert = 'INSERT OR IGNORE INTO versions (version, tenant, name, jws, bundle) VALUES (?, ?, ?, ?, ?)';
        const added = run(insert, it.version, it.tenant, it.name, it.jws, it.bundle);
        run(
          `INSERT INTO functions (tenant, name, version, deployed_at) VALUES (?, ?, ?, ?)
           ON CONFLICT (tenant, name) DO UPDATE SET version = excluded.version, deployed_at = excluded.deployed_at`,
          it.tenant,
          it.name,
          it.version,
          deployedAt,
        );
        return added === 1;
      }),
    ),
    functions: guarded((tenant) => {
      const select = 'SELECT tenant, name, version, deployed_at AS deployedAt FROM functions';
      const tail = 'ORDER BY tenant, name LIMIT ?';
      return tenant === undefined
        ? all<FunctionRecord>(`${select} ${tail}`, LIST_MAX)
        : all<FunctionRecord>(`${select} WHERE tenant = ? ${tail}`, tenant, LIST_MAX);
    }),
    currentVersion: guarded((tenant, name) =>
      one<FunctionRecord>(
        'SELECT tenant, name, version, deployed_at AS deployedAt FROM functions WHERE tenant = ? AND name = ?',
        tenant,
        name,
      ),
    ),
    version: guarded((version) =>
      one<FunctionVersion>('SELECT tenant, name, version, jws, bundle FROM versions WHERE version = ?', version),
    ),

    addReceipts: guarded((entries) =>
      transaction(() => entries.reduce((sum, entry) => sum + addReceipt(run, entry), 0)),
    ),
    receipt: guarded((id) => one<{ jws: string }>('SELECT jws FROM receipts WHERE id = ?', id)?.jws),
    usage: guarded((tenant) => {
      const tail = 'GROUP BY tenant, name ORDER BY tenant, name LIMIT ?';
      return tenant === undefined
        ? all<UsageRow>(`${USAGE} ${tail}`, LIST_MAX)
        : all<UsageRow>(`${USAGE} WHERE tenant = ? ${tail}`, tenant, LIST_MAX);
    }),

    addEvidence: guarded(
      (digest, json) => void run('INSERT OR IGNORE INTO evidence (digest, json) VALUES (?, ?)', digest, json),
    ),
    evidence: guarded((digest) => one<{ json: string }>('SELECT json FROM evidence WHERE digest = ?', digest)?.json),

    setConsent: guarded((subject, admitted) => {
      const sql = `INSERT INTO consents VALUES (?, ?) ON CONFLICT (subject) DO UPDATE SET admitted = excluded.admitted`;
      run(sql, subject, admitted ? 1 : 0);
    }),
    consents: guarded((subjects) => {
      const rows =
        subjects === undefined
          ? all<ConsentRow>('SELECT subject, admitted FROM consents ORDER BY subject LIMIT ?', LIST_MAX)
          : all<ConsentRow>(
              'SELECT subject, admitted FROM consents WHERE subject IN (SELECT value FROM json_each(?))',
              JSON.stringify(subjects),
            );
      return new Map(rows.map(({ subject, admitted }) => [subject, admitted === 1]));
    }),

    addWorkerAddress: guarded(
      (address) => void run('INSERT OR IGNORE INTO worker_addresses (address) VALUES (?)', address),
    ),
    removeWorkerAddress: guarded((address) => void run('DELETE FROM worker_addresses WHERE address = ?', address)),
    workerAddresses: guarded(() =>
      all<{ address: string }>('SELECT address FROM worker_addresses ORDER BY address LIMIT ?', LIST_MAX).map(
        (row) => row.address,
      ),
    ),

    close: guarded(() => database.close()),
  };
}

interface ConsentRow {
  readonly subject: string;
  readonly admitted: number;
}

function open(path: string): DatabaseSync {
  try {
    const database = new DatabaseSync(path);
    database.exec(SCHEMA);
    return database;
  } catch (cause) {
    throw new CfnError('CFN_STORE_FAILED', `cannot open the store: ${String((cause as Error).message)}`, { cause });
  }
}

function addReceipt(run: (sql: string, ...values: SQLInputValue[]) => number, { jws, receipt }: LedgerEntry): number {
  const { id, worker, issuedAt, outcome, usage, request, response } = receipt;
  return run(
    `INSERT OR IGNORE INTO receipts
     (id, tenant, name, version, worker, issued_at, outcome, cpu_ms, engine_ms, request_bytes, response_bytes, jws)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    id,
    receipt.function.tenant,
    receipt.function.name,
    receipt.function.version,
    worker,
    issuedAt,
    outcome,
    usage.cpuMs,
    usage.engineMs,
    request.bytes,
    response.bytes,
    jws,
  );
}

/** A synchronous step as a call of the store: answers as a promise, and what SQLite throws becomes `CFN_STORE_FAILED`. */
function guarded<A extends unknown[], R>(step: (...args: A) => R): (...args: A) => Promise<R> {
  return async (...args) => {
    try {
      return step(...args);
    } catch (cause) {
      if (cause instanceof CfnError) throw cause;
      throw new CfnError('CFN_STORE_FAILED', `the store refused: ${String((cause as Error).message)}`, { cause });
    }
  };
}
