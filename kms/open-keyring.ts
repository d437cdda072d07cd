import { openAuditKey, type AuditKey } from './audit-key.ts';
import { openDatabase, type Database } from './database.ts';
import { openRootKey, type RootKey, type RootKeyDeps } from './root-key.ts';
import { openSealingKey, type SealingKey } from './sealing-key.ts';
import { sqliteSecrets } from './sqlite-owners.ts';
import { sqliteStore } from './sqlite-store.ts';
import type { KeyStore } from './store.ts';

export interface OpenKeyring {
  readonly store: KeyStore;
  readonly rootKey: RootKey;
  readonly sealingKey: SealingKey;
  readonly auditKey: AuditKey;
}

/**
 * Opens the keyring under its root key. On first use both are made; a kill in between leaves something that the next start goes on
 * with.
 *
 * @param path of the SQLite file, or `:memory:`
 * @param deps.restoring then nothing is made that is not there
 * @param rootKey as in {@link openRootKey}, or one that is open already
 * @throws {CfnError} `CFN_STORE_FAILED`; what the root key throws; `CFN_KEYRING_ALTERED` when the keyring does not open under it;
 *   `CFN_AUDIT_ALTERED` when an audit log was cut or changed at its end
 */
export async function openKeyring(
  path: string,
  rootKey: string | RootKey,
  deps: Omit<RootKeyDeps, 'mayMake'> & { readonly restoring?: boolean },
): Promise<OpenKeyring> {
  const database = openDatabase(path);
  let root: RootKey | undefined;
  try {
    const secrets = sqliteSecrets(database);
    const unused = deps.restoring !== true && isUnused(database);
    const mayMake = unused && (await secrets.secrets()).length === 0;
    root = typeof rootKey === 'string' ? await openRootKey(rootKey, { ...deps, mayMake }) : rootKey;
    const auditKey = await openAuditKey(secrets, root, unused);
    const sealingKey = await openSealingKey(secrets, root, unused);
    const store = sqliteStore(database, auditKey);
    await store.checkHeads();
    return { store, rootKey: root, sealingKey, auditKey };
  } catch (error) {
    database.close();
    await root?.close();
    throw error;
  }
}

/** Nobody has stored anything yet. */
const isUnused = ({ one }: Database): boolean =>
  one('SELECT 1 FROM owners UNION SELECT 1 FROM audit UNION SELECT 1 FROM namespace_keys', {}) === undefined;
