import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { CfnError } from '../../../proto/index.ts';
import { STEPS } from './schema.ts';

/** A SQLite file, with what the parts of the store do on it. */
export interface Database {
  /** Gives the number of changed rows. */
  readonly run: (sql: string, ...values: SQLInputValue[]) => number;
  // SQLite's STRICT tables hold the column types, so a row has the shape of its SELECT.
  readonly one: <T>(sql: string, ...values: SQLInputValue[]) => T | undefined;
  readonly all: <T>(sql: string, ...values: SQLInputValue[]) => T[];
  readonly transaction: <T>(work: () => T) => T;
  readonly close: () => void;
}

/** In WAL mode, with an fsync for each transaction. @throws {CfnError} `CFN_STORE_FAILED` */
export function openDatabase(path: string): Database {
  const database = open(path);
  const prepared = new Map<string, ReturnType<DatabaseSync['prepare']>>();
  const statement = (sql: string): ReturnType<DatabaseSync['prepare']> => {
    let found = prepared.get(sql);
    if (found === undefined) prepared.set(sql, (found = database.prepare(sql)));
    return found;
  };
  return {
    run: (sql, ...values) => Number(statement(sql).run(...values).changes),
    one: <T>(sql: string, ...values: SQLInputValue[]) => statement(sql).get(...values) as T | undefined,
    all: <T>(sql: string, ...values: SQLInputValue[]) => statement(sql).all(...values) as T[],
    transaction: (work) => transaction(database, work),
    close: () => database.close(),
  };
}

/** A synchronous step as a call of the store: answers as a promise, and what SQLite throws becomes `CFN_STORE_FAILED`. */
export function guarded<A extends unknown[], R>(step: (...args: A) => R): (...args: A) => Promise<R> {
  return async (...args) => {
    try {
      return step(...args);
    } catch (cause) {
      if (cause instanceof CfnError) throw cause;
      throw new CfnError('CFN_STORE_FAILED', `the store refused: ${String((cause as Error).message)}`, { cause });
    }
  };
}

function open(path: string): DatabaseSync {
  try {
    const database = new DatabaseSync(path);
    database.exec(
      'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;',
    );
    transaction(database, () => upgrade(database));
    return database;
  } catch (cause) {
    if (cause instanceof CfnError) throw cause;
    throw new CfnError('CFN_STORE_FAILED', `cannot open the store: ${String((cause as Error).message)}`, { cause });
  }
}

/** Takes the steps that the file has not seen. */
function upgrade(database: DatabaseSync): void {
  const at = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  if (at > STEPS.length)
    throw new CfnError('CFN_STORE_FAILED', `the store has schema ${at}, newer than ${STEPS.length}: run a newer cfn`);
  for (const step of STEPS.slice(at)) database.exec(step);
  database.exec(`PRAGMA user_version = ${STEPS.length}`);
}

function transaction<T>(database: DatabaseSync, work: () => T): T {
  database.exec('BEGIN IMMEDIATE');
  try {
    const result = work();
    database.exec('COMMIT');
    return result;
  } catch (cause) {
    database.exec('ROLLBACK');
    throw cause;
  }
}
