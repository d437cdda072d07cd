import { jwtVerify, SignJWT } from 'jose';
import { z } from 'zod';
import { CfnError, nameSchema } from '../proto/index.ts';
import { scopeOf, TENANT_ROLES, type Caller } from './access/roles.ts';
import { TOKEN_SECONDS_MAX } from './limits.ts';

const ISSUER = 'cfn-gateway';
const AUDIENCE = 'cfn-control';
const ALGORITHM = 'HS256';

/** A role inside a tenant, as requests and tokens spell it: `tenant` is the older name of the owner. */
export const tenantRoleSchema = z
  .enum([...TENANT_ROLES, 'tenant'])
  .transform((role) => (role === 'tenant' ? 'owner' : role));

const claimsSchema = z.union([
  z.object({ role: z.enum(['operator', 'worker']), sub: z.string() }),
  z.object({ role: tenantRoleSchema, sub: z.string(), tenant: nameSchema }),
]);

export interface Tokens {
  /** A bearer token (JWT) for the caller, valid for `ttlSeconds` from now. */
  issue(caller: Caller, ttlSeconds: number): Promise<string>;
  /** @throws {CfnError} `CFN_TOKEN_INVALID` */
  verify(token: string): Promise<Caller>;
}

/** Tokens under one secret of this gateway. Algorithm, issuer and audience are fixed; a token cannot choose them. */
export function tokens(secret: Uint8Array, now: () => Date): Tokens {
  return {
    async issue(caller, ttlSeconds) {
      const { role, sub } = caller;
      const issuedAt = Math.floor(now().getTime() / 1000);
      return new SignJWT({ role, tenant: scopeOf(caller) })
        .setProtectedHeader({ alg: ALGORITHM, typ: 'JWT' })
        .setSubject(sub)
        .setIssuer(ISSUER)
        .setAudience(AUDIENCE)
        .setIssuedAt(issuedAt)
        .setExpirationTime(issuedAt + Math.min(ttlSeconds, TOKEN_SECONDS_MAX))
        .sign(secret);
    },
    async verify(token) {
      try {
        const { payload } = await jwtVerify(token, secret, {
          algorithms: [ALGORITHM],
          issuer: ISSUER,
          audience: AUDIENCE,
          typ: 'JWT',
          requiredClaims: ['exp', 'sub'],
          currentDate: now(),
        });
        return claimsSchema.parse(payload);
      } catch (cause) {
        throw new CfnError('CFN_TOKEN_INVALID', 'the bearer token does not verify, or has expired', { cause });
      }
    },
  };
}
