import type { Store } from '../store.ts';
import { guarded, openDatabase } from './database.ts';
import { sqliteDeployments } from './deployments.ts';
import { sqliteFunctions } from './functions.ts';
import { sqliteKeys } from './keys.ts';
import { sqliteModels } from './models.ts';
import { sqliteOperator } from './operator.ts';
import { sqliteReceipts } from './receipts.ts';
import { sqliteTenants } from './tenants.ts';

/** The store on one machine: a SQLite file. @throws {CfnError} `CFN_STORE_FAILED` when the file is none, or of a newer cfn. */
export function sqliteStore(path: string): Store {
  const database = openDatabase(path);
  return {
    ...sqliteTenants(database),
    ...sqliteKeys(database),
    ...sqliteModels(database),
    ...sqliteFunctions(database),
    ...sqliteDeployments(database),
    ...sqliteReceipts(database),
    ...sqliteOperator(database),
    close: guarded(() => database.close()),
  };
}
