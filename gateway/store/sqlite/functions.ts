import { LIST_MAX } from '../../limits.ts';
import type { FunctionRecord, FunctionStore, FunctionVersion } from '../functions.ts';
import { guarded, type Database } from './database.ts';
import { deploy } from './deployments.ts';

const SELECT = 'SELECT tenant, name, version, deployed_at AS deployedAt FROM functions';

export function sqliteFunctions(database: Database): FunctionStore {
  const { one, all, transaction } = database;
  return {
    uploadVersion: guarded((it, at) => upload(database, it, at)),
    addVersion: guarded((it, at) =>
      transaction(() => {
        const added = upload(database, it, at);
        const { tenant, name, version } = it;
        deploy(database, { tenant, name, versions: [{ version, percent: 100 }], at, cause: 'deploy', message: '' });
        return added;
      }),
    ),
    functions: guarded((tenant) => {
      const tail = 'ORDER BY tenant, name LIMIT ?';
      return tenant === undefined
        ? all<FunctionRecord>(`${SELECT} ${tail}`, LIST_MAX)
        : all<FunctionRecord>(`${SELECT} WHERE tenant = ? ${tail}`, tenant, LIST_MAX);
    }),
    currentVersion: guarded((tenant, name) =>
      one<FunctionRecord>(`${SELECT} WHERE tenant = ? AND name = ?`, tenant, name),
    ),
    version: guarded((version) =>
      one<FunctionVersion>('SELECT tenant, name, version, jws, bundle FROM versions WHERE version = ?', version),
    ),
  };
}

function upload({ run }: Database, it: FunctionVersion, at: string): boolean {
  const insert = `INSERT OR IGNORE INTO versions (version, tenant, name, jws, bundle, uploaded_at)
    VALUES (?, ?, ?, ?, ?, ?)`;
  return run(insert, it.version, it.tenant, it.name, it.jws, it.bundle, at) === 1;
}
