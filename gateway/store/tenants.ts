export interface Tenant {
  readonly name: string;
  /** RFC 3339, UTC. */
  readonly createdAt: string;
}

export interface TenantStore {
  /** @throws {CfnError} `CFN_CONFLICT` when the tenant exists. */
  addTenant(tenant: Tenant): Promise<void>;
  hasTenant(name: string): Promise<boolean>;
  /** Up to the limit of a list. */
  tenants(): Promise<Tenant[]>;
  /** What the operator grants a tenant, as JSON text; replaces what was there. @throws {CfnError} `CFN_TENANT_NOT_FOUND` */
  setLimits(tenant: string, limits: string): Promise<void>;
  limits(tenant: string): Promise<string | undefined>;
}
