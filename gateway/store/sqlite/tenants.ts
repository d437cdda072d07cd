import { CfnError } from '../../../proto/index.ts';
import type { TenantStore } from '../tenants.ts';
import { guarded, type Database } from './database.ts';

export function sqliteTenants({ run, one }: Database): TenantStore {
  return {
    addTenant: guarded(({ name, createdAt }) => {
      const added = run('INSERT OR IGNORE INTO tenants (name, created_at) VALUES (?, ?)', name, createdAt);
      if (added === 0) throw new CfnError('CFN_CONFLICT', `tenant ${name} exists`);
    }),
    hasTenant: guarded((name) => one('SELECT 1 FROM tenants WHERE name = ?', name) !== undefined),
  };
}
