import { LIST_MAX } from '../../limits.ts';
import type { FunctionRecord, FunctionStore, FunctionVersion } from '../functions.ts';
import { guarded, type Database } from './database.ts';

const SELECT = 'SELECT tenant, name, version, deployed_at AS deployedAt FROM functions';

export function sqliteFunctions({ run, one, all, transaction }: Database): FunctionStore {
  return {
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
