// The door of the store: what the gateway may not lose.
export type { Deployment, DeploymentCause, VersionRecord } from './deployments.ts';
export type { FunctionRecord, FunctionVersion } from './functions.ts';
export type { ApiKeyRecord } from './keys.ts';
export type { ModelRecord } from './models.ts';
export type { LedgerEntry, SealedBatch, StoredReceipt, UsageQuery, Used } from './receipts.ts';
export type { Store } from './store.ts';
export type { Tenant } from './tenants.ts';
export { CHANGES, CHANGES_COUNT, redisStore } from './redis/index.ts';
export { sqliteStore } from './sqlite/index.ts';
