import { CfnError } from '../proto/index.ts';
import type { Database } from './database.ts';
import { quotasOf } from './quotas.ts';
import type { AuditWriter } from './sqlite-audit.ts';
import type { ModelStore, StoredModel, StoredWithdrawal } from './store.ts';

/** Models and withdrawals. @param revokeWhere as in `sqlite-leases.ts` */
export function sqliteModels(
  database: Database,
  { note }: AuditWriter,
  revokeWhere: (condition: string, values: Record<string, string>, at: number) => number,
): ModelStore {
  const { run, all, one, transact, read } = database;
  return {
    addModel: (model) =>
      transact(() => {
        const { digest, owner, storedAt, keyVersion, wrappedKey } = model;
        if (one('SELECT 1 FROM models WHERE digest = :digest AND owner = :owner', { digest, owner }) !== undefined)
          return 'present';
        const newest = one<{ version?: number }>(
          'SELECT max(version) AS version FROM namespace_keys WHERE owner = :owner',
          { owner },
        );
        if (newest?.version !== keyVersion) return 'stale';
        const { models: limit } = quotasOf(database, owner);
        const { count = 0 } =
          one<{ count: number }>('SELECT count(*) AS count FROM models WHERE owner = :owner', { owner }) ?? {};
        if (count >= limit)
          throw new CfnError('CFN_QUOTA_EXCEEDED', `the namespace has ${limit} models, the most it may have`);
        run('INSERT INTO models VALUES (:digest, :owner, :model, :wrappedKey, :keyVersion, :storedAt, NULL)', {
          digest,
          owner,
          model: model.model,
          wrappedKey,
          keyVersion,
          storedAt,
        });
        note(owner, { at: iso(storedAt), decision: 'key-stored', digest, subject: model.model });
        return 'added';
      }),
    model: (digest, owner) =>
      read(() => one<StoredModel>('SELECT * FROM models WHERE digest = :digest AND owner = :owner', { digest, owner })),
    models: (owner) =>
      read(() =>
        owner === undefined
          ? all<StoredModel>('SELECT * FROM models ORDER BY model', {})
          : all<StoredModel>('SELECT * FROM models WHERE owner = :owner ORDER BY model', { owner }),
      ),
    withdrawModel: (digest, owner, at) =>
      transact(() => {
        const key = { digest, owner };
        const row = one<StoredModel>('SELECT * FROM models WHERE digest = :digest AND owner = :owner', key);
        if (row === undefined) return undefined;
        if (row.withdrawnAt !== undefined) return 0;
        // The key is forgotten, so that no edit of this row brings it back.
        run(`UPDATE models SET withdrawnAt = :at, wrappedKey = x'' WHERE digest = :digest AND owner = :owner`, {
          ...key,
          at,
        });
        note(owner, { at: iso(at), decision: 'withdrawn', digest, subject: row.model });
        return revokeWhere('digest = :digest AND owner = :owner', key, at);
      }),
    withdrawFunction: ({ version, author, statement, at }) =>
      transact(() => {
        const sql = 'INSERT INTO withdrawn VALUES (:version, :author, :statement, :at) ON CONFLICT DO NOTHING';
        if (run(sql, { version, author, statement, at }) === 0) return 0;
        note('', { at: iso(at), decision: 'withdrawn', version, subject: author });
        return revokeWhere('version = :version', { version }, at);
      }),
    withdrawal: (version) =>
      read(() => one<StoredWithdrawal>('SELECT * FROM withdrawn WHERE version = :version', { version })),
  };
}

const iso = (at: number): string => new Date(at).toISOString();
