import type { DeploymentStore } from './deployments.ts';
import type { FunctionStore } from './functions.ts';
import type { KeyStore } from './keys.ts';
import type { ModelStore } from './models.ts';
import type { OperatorStore } from './operator.ts';
import type { ReceiptStore } from './receipts.ts';
import type { TenantStore } from './tenants.ts';

/**
 * What the gateway may not lose. A call that returned has been written durably. `contract/` is the suite for every
 * implementation. Calls throw `CFN_STORE_FAILED` when the store does not take or give what it should.
 */
export interface Store
  extends TenantStore, KeyStore, ModelStore, FunctionStore, DeploymentStore, ReceiptStore, OperatorStore {
  close(): Promise<void>;
}
