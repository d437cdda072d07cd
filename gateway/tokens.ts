import { jwtVerify, SignJWT } from 'jose';
import { z } from 'zod';
import { CfnError, nameSchema } from '../proto/index.ts';
import { TOKEN_SECONDS_MAX } from './limits.ts';

const ISSUER = 'cfn-gateway';
const AUDIENCE = 'cfn-control';
const ALGORITHM = 'HS256';

export const roleSchema = z.enum(['operator', 'tenant', 'worker']);
export type Role = z.infer<typeof roleSchema>;

const claimsSchema = z.discriminatedUnion('role', [
  z.object({ role: z.literal('operator'), sub: z.string() }),
  z.object({ role: z.literal('tenant'), sub: z.string(), tenant: nameSchema }),
  z.object({ role: z.literal('worker'), sub: z.string() }),
]);
/** Who calls, as a verified token says. */
export type Caller = z.infer<typeof claimsSchema>;

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
      return new SignJWT({ role, ...(role === 'tenant' ? { tenant: caller.tenant } : {}) })
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

/** @throws {CfnError} `CFN_TOKEN_SCOPE` unless the caller has one of the roles. */
export function requireRole(caller: Caller, ...roles: readonly Role[]): void {
  if (!roles.includes(caller.role)) {
    throw new CfnError('CFN_TOKEN_SCOPE', `role ${caller.role} may not do this; it takes ${roles.join(' or ')}`);
  }
}

/** Operators act for every tenant, a tenant for itself. @throws {CfnError} `CFN_TOKEN_SCOPE` */
export function requireTenant(caller: Caller, tenant: string): void {
  requireRole(caller, 'operator', 'tenant');
  if (caller.role === 'tenant' && caller.tenant !== tenant) {
    throw new CfnError('CFN_TOKEN_SCOPE', `the token is for tenant ${caller.tenant}, not for ${tenant}`);
  }
}
