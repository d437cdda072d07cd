import type { AuditKey } from './audit-key.ts';
import type { Database } from './database.ts';
import { sqliteAudit } from './sqlite-audit.ts';
import { sqliteFunctionSecrets } from './sqlite-function-secrets.ts';
import { sqliteLeases } from './sqlite-leases.ts';
import { sqliteModels } from './sqlite-models.ts';
import { sqliteResources } from './sqlite-resources.ts';
import { sqliteOwners, sqliteSecrets } from './sqlite-owners.ts';
import type { KeyStore } from './store.ts';

/** The keyring in one SQLite file. Each part is in a file of its own. */
export function sqliteStore(database: Database, auditKey: AuditKey): KeyStore {
  const { note, ...audit } = sqliteAudit(database, auditKey);
  const { revokeWhere, ...leases } = sqliteLeases(database, { note });
  return {
    ...audit,
    ...leases,
    ...sqliteSecrets(database),
    ...sqliteOwners(database, { note }),
    ...sqliteResources(database, { note }),
    ...sqliteModels(database, { note }, revokeWhere),
    ...sqliteFunctionSecrets(database, { note }, revokeWhere),
    close: () => database.close(),
  };
}
