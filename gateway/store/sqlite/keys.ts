import { LIST_MAX } from '../../limits.ts';
import type { ApiKeyRecord, KeyStore } from '../keys.ts';
import { guarded, type Database } from './database.ts';

const SELECT = `SELECT id, name, role, tenant, created_at AS createdAt, expires_at AS expiresAt, used_at AS usedAt, digest FROM keys`;

type Row = { readonly [K in keyof Required<ApiKeyRecord>]: Required<ApiKeyRecord>[K] | null };

export function sqliteKeys({ run, one, all }: Database): KeyStore {
  return {
    addKey: guarded(({ id, name, role, tenant, createdAt, expiresAt, usedAt, digest }) => {
      const sql =
        'INSERT INTO keys (id, name, role, tenant, created_at, expires_at, used_at, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)';
      run(sql, id, name, role, tenant ?? null, createdAt, expiresAt ?? null, usedAt ?? null, digest);
    }),
    key: guarded((id) => {
      const row = one<Row>(`${SELECT} WHERE id = ?`, id);
      return row === undefined ? undefined : recordOf(row);
    }),
    keys: guarded((tenant) => {
      const tail = 'ORDER BY created_at, id LIMIT ?';
      const rows =
        tenant === undefined
          ? all<Row>(`${SELECT} ${tail}`, LIST_MAX)
          : all<Row>(`${SELECT} WHERE tenant = ? ${tail}`, tenant, LIST_MAX);
      return rows.map(recordOf);
    }),
    removeKey: guarded((id, tenant) =>
      tenant === undefined
        ? run('DELETE FROM keys WHERE id = ?', id) === 1
        : run('DELETE FROM keys WHERE id = ? AND tenant = ?', id, tenant) === 1,
    ),
    keyUsed: guarded((id, usedAt) => void run('UPDATE keys SET used_at = ? WHERE id = ?', usedAt, id)),
  };
}

/** Columns without a value are left out. */
function recordOf(row: Row): ApiKeyRecord {
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== null)) as unknown as ApiKeyRecord;
}
