import { CfnError, type VersionShare } from '../../../proto/index.ts';
import { DEPLOYMENTS_KEPT, LIST_MAX } from '../../limits.ts';
import type { Deployment, DeploymentStore, VersionRecord } from '../deployments.ts';
import { guarded, type Database } from './database.ts';

const SELECT = 'SELECT tenant, name, id, versions, at, cause, message FROM deployments WHERE tenant = ? AND name = ?';

export function sqliteDeployments(database: Database): DeploymentStore {
  const { one, all, transaction } = database;
  return {
    addDeployment: guarded((deployment, after) => transaction(() => deploy(database, deployment, after))),
    currentDeployment: guarded((tenant, name) => {
      const row = one<Row>(`${SELECT} ORDER BY id DESC LIMIT 1`, tenant, name);
      return row && fromRow(row);
    }),
    deployments: guarded((tenant, name) =>
      all<Row>(`${SELECT} ORDER BY id DESC LIMIT ?`, tenant, name, LIST_MAX).map(fromRow),
    ),
    versions: guarded((tenant, name) =>
      all<VersionRecord>(
        'SELECT version, uploaded_at AS uploadedAt FROM versions WHERE tenant = ? AND name = ? ORDER BY rowid DESC LIMIT ?',
        tenant,
        name,
        LIST_MAX,
      ),
    ),
  };
}

/** Inside a transaction. */
export function deploy(
  { run, one }: Database,
  { tenant, name, versions, at, cause, message }: Omit<Deployment, 'id'>,
  after?: number,
): Deployment {
  for (const { version } of versions) {
    const found = one('SELECT 1 FROM versions WHERE version = ? AND tenant = ? AND name = ?', version, tenant, name);
    if (found === undefined)
      throw new CfnError('CFN_FUNCTION_NOT_FOUND', `${tenant}/${name} has no version ${version}`);
  }
  const current = one<{ id: number }>(
    'SELECT max(id) AS id FROM deployments WHERE tenant = ? AND name = ? HAVING id IS NOT NULL',
    tenant,
    name,
  );
  if (after !== undefined && current?.id !== after)
    throw new CfnError('CFN_CONFLICT', `deployment ${after} of ${tenant}/${name} is not the current one any more`);
  const id = (current?.id ?? 0) + 1;
  run(
    'INSERT INTO deployments VALUES (?, ?, ?, ?, ?, ?, ?)',
    tenant,
    name,
    id,
    JSON.stringify(versions),
    at,
    cause,
    message,
  );
  run('DELETE FROM deployments WHERE tenant = ? AND name = ? AND id <= ?', tenant, name, id - DEPLOYMENTS_KEPT);
  const leading = versions.toSorted((a, b) => b.percent - a.percent)[0]?.version ?? '';
  run(
    `INSERT INTO functions (tenant, name, version, deployed_at) VALUES (?, ?, ?, ?)
     ON CONFLICT (tenant, name) DO UPDATE SET version = excluded.version, deployed_at = excluded.deployed_at`,
    tenant,
    name,
    leading,
    at,
  );
  return { tenant, name, id, versions, at, cause, message };
}

type Row = Omit<Deployment, 'versions'> & { readonly versions: string };
const fromRow = (row: Row): Deployment => ({ ...row, versions: JSON.parse(row.versions) as VersionShare[] });
