import { CfnError, SECRETS_MAX } from '../proto/index.ts';
import type { Database } from './database.ts';
import { SECRET_SETS_MAX } from './limits.ts';
import type { AuditWriter } from './sqlite-audit.ts';
import type { FunctionSecretStore, StoredFunctionSecret, StoredSecretSet } from './store.ts';

type SetRow = Omit<StoredSecretSet, 'secrets'>;

/** Secrets of functions. @param revokeWhere as in `sqlite-leases.ts` */
export function sqliteFunctionSecrets(
  { run, all, one, transact, read }: Database,
  { note }: AuditWriter,
  revokeWhere: (condition: string, values: Record<string, string>, at: number) => number,
): FunctionSecretStore {
  const setOf = (id: string): SetRow | undefined => one('SELECT * FROM secret_sets WHERE id = :id', { id });
  const count = (sql: string, values: Record<string, string>): number =>
    one<{ count: number }>(`SELECT count(*) AS count FROM ${sql}`, values)?.count ?? 0;

  return {
    putFunctionSecrets: ({ id, owner, tenant, function: name, revision }, secrets) =>
      transact(() => {
        const newest = one<{ version?: number }>(
          'SELECT max(version) AS version FROM namespace_keys WHERE owner = :owner',
          { owner },
        );
        const [first] = secrets;
        if (first === undefined || newest?.version !== first.keyVersion) return undefined;
        if (setOf(id) === undefined && count('secret_sets WHERE owner = :owner', { owner }) >= SECRET_SETS_MAX)
          throw new CfnError(
            'CFN_QUOTA_EXCEEDED',
            `the namespace has secrets of ${SECRET_SETS_MAX} functions, the most it may have`,
          );
        run(
          `INSERT INTO secret_sets VALUES (:id, :owner, :tenant, :name, :revision)
           ON CONFLICT (id) DO UPDATE SET revision = excluded.revision`,
          { id, owner, tenant, name, revision },
        );
        for (const { version, ...secret } of secrets)
          run(
            `INSERT OR REPLACE INTO function_secrets (id, name, wrapped, keyVersion, author, version, leaseMs, storedAt)
             VALUES (:id, :name, :wrapped, :keyVersion, :author, :version, :leaseMs, :storedAt)`,
            { ...secret, version: version ?? null },
          );
        if (count('function_secrets WHERE id = :id', { id }) > SECRETS_MAX)
          throw new CfnError('CFN_QUOTA_EXCEEDED', `a function has ${SECRETS_MAX} secrets at most`);
        const subject = secrets.map((secret) => secret.name).join(' ');
        const version = first.version;
        note(owner, {
          at: iso(first.storedAt),
          decision: 'secrets-put',
          digest: id,
          tenant,
          function: name,
          ...(version !== undefined && { version }),
          subject,
        });
        return revokeWhere('digest = :id', { id }, first.storedAt);
      }),
    functionSecrets: (id) =>
      read(() => {
        const set = setOf(id);
        const secrets = all<StoredFunctionSecret>('SELECT * FROM function_secrets WHERE id = :id ORDER BY name', {
          id,
        });
        return set && { ...set, secrets };
      }),
    deleteFunctionSecret: (id, name, revision, at) =>
      transact(() => {
        const set = setOf(id);
        if (
          set === undefined ||
          run('DELETE FROM function_secrets WHERE id = :id AND name = :name', { id, name }) === 0
        )
          return undefined;
        run('UPDATE secret_sets SET revision = :revision WHERE id = :id', { id, revision });
        const { owner, tenant } = set;
        const what = { digest: id, tenant, function: set.function, subject: name };
        note(owner, { at: iso(at), decision: 'secret-deleted', ...what });
        return revokeWhere('digest = :id', { id }, at);
      }),
  };
}

const iso = (at: number): string => new Date(at).toISOString();
