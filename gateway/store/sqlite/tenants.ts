import { CfnError } from '../../../proto/index.ts';
import { LIST_MAX } from '../../limits.ts';
import type { Tenant, TenantStore } from '../tenants.ts';
import { guarded, type Database } from './database.ts';

export function sqliteTenants({ run, one, all }: Database): TenantStore {
  return {
    addTenant: guarded(({ name, createdAt }) => {
      const added = run('INSERT OR IGNORE INTO tenants (name, created_at) VALUES (?, ?)', name, createdAt);
      if (added === 0) throw new CfnError('CFN_CONFLICT', `tenant ${name} exists`);
    }),
    hasTenant: guarded((name) => one('SELECT 1 FROM tenants WHERE name = ?', name) !== undefined),
    tenants: guarded(() =>
      all<Tenant>('SELECT name, created_at AS createdAt FROM tenants ORDER BY name LIMIT ?', LIST_MAX),
    ),
    setLimits: guarded((tenant, limits) => {
      // `SELECT` from the tenants, so that limits are never of a tenant that is not there.
      const sql = `INSERT INTO tenant_limits SELECT name, ? FROM tenants WHERE name = ?
        ON CONFLICT (tenant) DO UPDATE SET limits = excluded.limits`;
      if (run(sql, limits, tenant) === 0) throw new CfnError('CFN_TENANT_NOT_FOUND', `no tenant ${tenant}`);
    }),
    limits: guarded(
      (tenant) => one<{ limits: string }>('SELECT limits FROM tenant_limits WHERE tenant = ?', tenant)?.limits,
    ),
  };
}
