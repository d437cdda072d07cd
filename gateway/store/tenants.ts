export interface Tenant {
  readonly name: string;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
}

export interface TenantStore {
  /** @throws {CfnError} `CFN_CONFLICT` when the tenant exists. */
  addTenant(tenant: Tenant): Promise<void>;
  hasTenant(name: string): Promise<boolean>;
}
