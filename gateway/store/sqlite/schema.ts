/**
 * The schema as steps: a file has taken the first `user_version` of them. A step that was released is never changed; what comes new is
 * a step of its own.
 */
export const STEPS: readonly string[] = [
  // Files from before steps were counted have these tables already.
  `
CREATE TABLE IF NOT EXISTS tenants (name TEXT PRIMARY KEY, created_at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS models (
  model TEXT PRIMARY KEY, digest TEXT NOT NULL, manifest BLOB NOT NULL, created_at TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS versions (
  version TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, jws TEXT NOT NULL, bundle BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS functions (
  tenant TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL REFERENCES versions (version), deployed_at TEXT NOT NULL,
  PRIMARY KEY (tenant, name)) STRICT;
CREATE TABLE IF NOT EXISTS receipts (
  id TEXT PRIMARY KEY, tenant TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, worker TEXT NOT NULL,
  issued_at TEXT NOT NULL, outcome TEXT NOT NULL, cpu_ms REAL NOT NULL, engine_ms REAL NOT NULL,
  request_bytes INTEGER NOT NULL, response_bytes INTEGER NOT NULL, jws TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS receipts_by_function ON receipts (tenant, name);
CREATE TABLE IF NOT EXISTS evidence (digest TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS consents (subject TEXT PRIMARY KEY, admitted INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS worker_addresses (address TEXT PRIMARY KEY) STRICT;
`,
  // A function's requests are split between versions, and it is remembered how.
  `
ALTER TABLE versions ADD COLUMN uploaded_at TEXT NOT NULL DEFAULT '';
CREATE INDEX versions_by_function ON versions (tenant, name);
CREATE TABLE deployments (
  tenant TEXT NOT NULL, name TEXT NOT NULL, id INTEGER NOT NULL, versions TEXT NOT NULL, at TEXT NOT NULL,
  cause TEXT NOT NULL, message TEXT NOT NULL, PRIMARY KEY (tenant, name, id)) STRICT;
INSERT INTO deployments SELECT tenant, name, 1, json_array(json_object('version', version, 'percent', 100)),
  deployed_at, 'deploy', '' FROM functions;
`,
  // Receipts by the hour in which they came and by their place in their worker's chain, sums in integers, and batches. Receipts from
  // before are in the hour in which they were issued, in no chain and in no sum by model.
  `
CREATE TABLE function_usage (
  hour INTEGER NOT NULL, tenant TEXT NOT NULL, name TEXT NOT NULL, requests INTEGER NOT NULL, failed INTEGER NOT NULL,
  engine_calls INTEGER NOT NULL, engine_us INTEGER NOT NULL, cpu_us INTEGER NOT NULL, request_bytes INTEGER NOT NULL,
  response_bytes INTEGER NOT NULL, egress_bytes INTEGER NOT NULL, PRIMARY KEY (hour, tenant, name)) STRICT, WITHOUT ROWID;
CREATE TABLE model_usage (
  hour INTEGER NOT NULL, model TEXT NOT NULL, owner TEXT NOT NULL, tenant TEXT NOT NULL, requests INTEGER NOT NULL,
  failed INTEGER NOT NULL, engine_calls INTEGER NOT NULL, engine_us INTEGER NOT NULL, PRIMARY KEY (hour, model, tenant)) STRICT, WITHOUT ROWID;
CREATE TABLE receipt_batches (
  hour INTEGER PRIMARY KEY, size INTEGER NOT NULL, jws TEXT NOT NULL, blocks BLOB NOT NULL) STRICT;
INSERT INTO function_usage
  SELECT unixepoch(issued_at) / 3600, tenant, name, count(*), sum(outcome <> 'ok'), 0, sum(CAST(round(engine_ms * 1000) AS INTEGER)),
    sum(CAST(round(cpu_ms * 1000) AS INTEGER)), sum(request_bytes), sum(response_bytes), 0
  FROM receipts GROUP BY 1, 2, 3;
CREATE TABLE ledger (
  id TEXT PRIMARY KEY, hour INTEGER NOT NULL, worker TEXT NOT NULL, sequence INTEGER, tenant TEXT NOT NULL, jws TEXT NOT NULL) STRICT;
INSERT INTO ledger SELECT id, unixepoch(issued_at) / 3600, worker, NULL, tenant, jws FROM receipts;
DROP TABLE receipts;
ALTER TABLE ledger RENAME TO receipts;
CREATE INDEX receipts_by_hour ON receipts (hour, id);
CREATE INDEX receipts_by_worker ON receipts (worker, sequence);
`,
  `
CREATE TABLE keys (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, tenant TEXT REFERENCES tenants (name), created_at TEXT NOT NULL,
  expires_at TEXT, used_at TEXT, digest BLOB NOT NULL) STRICT;
CREATE INDEX keys_by_tenant ON keys (tenant);
CREATE TABLE tenant_limits (tenant TEXT PRIMARY KEY REFERENCES tenants (name), limits TEXT NOT NULL) STRICT;
`,
];
