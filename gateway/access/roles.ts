import { CfnError } from '../../proto/index.ts';

/** Roles inside a tenant, each for that tenant alone. */
export const TENANT_ROLES = ['owner', 'developer', 'viewer', 'invoker'] as const;
export type TenantRole = (typeof TENANT_ROLES)[number];
export type Role = 'operator' | TenantRole | 'worker';

const tenantReads = ['operator', 'owner', 'developer', 'viewer'] as const;
const tenantWrites = ['operator', 'owner', 'developer'] as const;

/** Who may do what: the one table. Every route names its action; operators act for every tenant, a tenant's roles within it. */
export const ACCESS = {
  'tenants:read': ['operator'],
  'tenants:write': ['operator'],
  'limits:read': tenantReads,
  'limits:write': ['operator'],
  'tokens:write': ['operator'],
  'keys:read': ['operator', 'owner'],
  'keys:write': ['operator', 'owner'],
  'blobs:read': [...tenantReads, 'worker'],
  'blobs:write': tenantWrites,
  'models:read': [...tenantReads, 'worker'],
  'models:write': tenantWrites,
  'functions:read': tenantReads,
  'functions:write': tenantWrites,
  // Not the operator: what a function demands of its callers, it demands of everybody.
  'functions:invoke': ['owner', 'developer', 'invoker'],
  'usage:read': tenantReads,
  'workers:read': ['operator'],
  'workers:write': ['operator'],
  'consents:read': ['operator'],
  'consents:write': ['operator'],
} as const satisfies Readonly<Record<string, readonly Role[]>>;
export type Action = keyof typeof ACCESS;

/** Who calls, as a token or key says that was verified. `sub`: whom the audit names. */
export type Caller =
  | { readonly role: 'operator' | 'worker'; readonly sub: string }
  | { readonly role: TenantRole; readonly sub: string; readonly tenant: string };

/** The tenant whose things alone the caller sees; `undefined` for operators and workers. */
export const scopeOf = (caller: Caller): string | undefined => ('tenant' in caller ? caller.tenant : undefined);

/** @throws {CfnError} `CFN_TOKEN_SCOPE` unless the caller's role has the action. */
export function requireAction(caller: Caller, action: Action): void {
  const roles: readonly Role[] = ACCESS[action];
  if (!roles.includes(caller.role))
    throw new CfnError('CFN_TOKEN_SCOPE', `role ${caller.role} may not do this; it takes ${roles.join(' or ')}`);
}

/**
 * Operators act for every tenant, the others for their own. The refusal does not say whether the tenant exists.
 *
 * @throws {CfnError} `CFN_TOKEN_SCOPE`
 */
export function requireTenant(caller: Caller, tenant: string): void {
  if (caller.role === 'operator' || scopeOf(caller) === tenant) return;
  throw new CfnError('CFN_TOKEN_SCOPE', 'the token is not for this tenant');
}
