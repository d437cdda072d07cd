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
  `
CREATE TABLE keys (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, tenant TEXT REFERENCES tenants (name), created_at TEXT NOT NULL,
  expires_at TEXT, used_at TEXT, digest BLOB NOT NULL) STRICT;
CREATE INDEX keys_by_tenant ON keys (tenant);
CREATE TABLE tenant_limits (tenant TEXT PRIMARY KEY REFERENCES tenants (name), limits TEXT NOT NULL) STRICT;
CREATE INDEX receipts_by_time ON receipts (tenant, issued_at);
`,
];
