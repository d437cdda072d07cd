import { expect, test } from 'vitest';
import { ACCESS, requireAction, requireTenant, scopeOf, TENANT_ROLES, type Action, type Caller } from './roles.ts';

const operator: Caller = { role: 'operator', sub: 'o' };
const worker: Caller = { role: 'worker', sub: 'w' };
const acme = TENANT_ROLES.map((role): Caller => ({ role, sub: role, tenant: 'acme' }));
const scope = expect.objectContaining({ code: 'CFN_TOKEN_SCOPE' }) as Error;

test('each tenant role acts for its tenant, an operator for all, a worker for none', () => {
  for (const caller of acme) {
    expect(scopeOf(caller)).toBe('acme');
    expect(() => requireTenant(caller, 'acme')).not.toThrow();
    expect(() => requireTenant(caller, 'other')).toThrowError(scope);
  }
  expect(() => requireTenant(operator, 'acme')).not.toThrow();
  expect(() => requireTenant(worker, 'acme')).toThrowError(scope);
});

test('a role does what the table says, and nothing else', () => {
  for (const action of Object.keys(ACCESS) as Action[]) {
    for (const caller of [operator, worker, ...acme]) {
      const attempt = (): void => requireAction(caller, action);
      if ((ACCESS[action] as readonly string[]).includes(caller.role)) expect(attempt).not.toThrow();
      else expect(attempt).toThrowError(scope);
    }
  }
});

test('what the roles are for: viewers change nothing, invokers do nothing else, no tenant does what is the operator’s', () => {
  const of = (role: string): string[] =>
    Object.entries(ACCESS).flatMap(([action, roles]) => ((roles as readonly string[]).includes(role) ? [action] : []));
  expect(of('viewer').filter((action) => !action.endsWith(':read'))).toEqual([]);
  expect(of('invoker')).toEqual(['functions:invoke']);
  expect(of('worker')).toEqual(['blobs:read', 'models:read']);
  for (const role of TENANT_ROLES)
    expect(of(role).filter((action) => /^(tenants|workers|consents|tokens):|^limits:write/.test(action))).toEqual([]);
});
