import type { Hono } from 'hono';
import { z } from 'zod';
import { CfnError, nameSchema } from '../../proto/index.ts';
import { guard } from '../access/guard.ts';
import { scopeOf, TENANT_ROLES, type Caller } from '../access/roles.ts';
import type { AppEnv, Gateway } from '../context.ts';
import { CONTROL_BYTES_MAX, TOKEN_SECONDS_MAX } from '../limits.ts';
import type { ApiKeyRecord } from '../store/index.ts';
import { jsonBody } from './body.ts';

export const keyRequestSchema = z.strictObject({
  /** What it is for, said to people. */
  name: z.string().regex(/^[\w .:/@+-]{1,100}$/, 'at most 100 letters, digits, spaces and . : / @ + - _'),
  role: z.enum([...TENANT_ROLES, 'operator', 'worker']),
  /** For operators to say; a tenant's keys are its own. */
  tenant: nameSchema.optional(),
  /** Absent: until it is revoked. */
  ttlSeconds: z.int().positive().max(TOKEN_SECONDS_MAX).optional(),
});

/** API keys: of a tenant, for its owners; of anybody, for operators. */
export function keyRoutes(app: Hono<AppEnv>, gateway: Gateway): void {
  const may = guard(gateway);
  const { store, keys, now } = gateway;

  app.post('/v1/keys', may('keys:write'), async (c) => {
    const { ttlSeconds, ...wanted } = await jsonBody(c, keyRequestSchema, CONTROL_BYTES_MAX);
    const tenant = await tenantOfKey(c.get('caller'), wanted);
    const expiresAt =
      ttlSeconds === undefined ? undefined : new Date(now().getTime() + ttlSeconds * 1000).toISOString();
    const { record, key } = await keys.make({ name: wanted.name, role: wanted.role, tenant, expiresAt });
    c.set('subject', `${tenant ?? 'operator'} key ${record.id} ${record.role}`);
    return c.json({ ...described(record), key }, 201, { 'cache-control': 'no-store' });
  });

  app.get('/v1/keys', may('keys:read'), async (c) =>
    c.json({ keys: (await store.keys(scopeOf(c.get('caller')))).map(described) }),
  );

  app.delete('/v1/keys/:id', may('keys:write'), async (c) => {
    // One answer for a key that is not there and for another tenant's.
    if (!(await keys.revoke(c.req.param('id'), scopeOf(c.get('caller')))))
      throw new CfnError('CFN_NOT_FOUND', 'no key has this id');
    return c.body(null, 204);
  });

  /** Nobody makes a key that may do more than themselves. */
  async function tenantOfKey(
    caller: Caller,
    { role, tenant }: Pick<z.infer<typeof keyRequestSchema>, 'role' | 'tenant'>,
  ): Promise<string | undefined> {
    const scope = scopeOf(caller);
    const ofTenant = role !== 'operator' && role !== 'worker';
    if (scope !== undefined) {
      if (!ofTenant) throw new CfnError('CFN_TOKEN_SCOPE', `a tenant has no keys of role ${role}`);
      if (tenant !== undefined && tenant !== scope)
        throw new CfnError('CFN_TOKEN_SCOPE', 'the token is not for this tenant');
      return scope;
    }
    if (ofTenant !== (tenant !== undefined))
      throw new CfnError('CFN_INPUT_INVALID', `tenant: role ${role} ${ofTenant ? 'needs one' : 'has none'}`);
    if (tenant !== undefined && !(await store.hasTenant(tenant)))
      throw new CfnError('CFN_TENANT_NOT_FOUND', `no tenant ${tenant}`);
    return tenant;
  }
}

function described({ id, name, role, tenant, createdAt, expiresAt, usedAt }: ApiKeyRecord): object {
  return { id, name, role, tenant, createdAt, expiresAt, usedAt };
}
