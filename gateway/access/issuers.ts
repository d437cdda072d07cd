import {
  createRemoteJWKSet,
  customFetch,
  decodeJwt,
  jwtVerify,
  errors as joseErrors,
  type JWTVerifyGetKey,
} from 'jose';
import { z } from 'zod';
import { CfnError, fromUtf8, nameSchema } from '../../proto/index.ts';
import { ISSUER_FETCH, ISSUER_SKEW_SECONDS } from '../limits.ts';
import { TENANT_ROLES, type Caller } from './roles.ts';

/** Over TLS; without it on the loopback of this machine alone. */
const issuerUrlSchema = z
  .url()
  .refine(
    (text) => text.startsWith('https://') || /^http:\/\/(127\.0\.0\.1|\[::1\]|localhost)(:\d+)?(\/|$)/.test(text),
    'expected https',
  );

/** Each claim named must be this text, or a list that holds it. */
const conditionSchema = z.record(z.string().min(1), z.string().min(1));
const ruleSchema = z.discriminatedUnion('role', [
  z.strictObject({ when: conditionSchema, role: z.literal('operator') }),
  z.strictObject({
    when: conditionSchema,
    role: z.enum(TENANT_ROLES),
    /** A tenant by name, or the claim that names it: then the issuer says who acts for which tenant. */
    tenant: z.union([nameSchema, z.strictObject({ claim: z.string().min(1) })]),
  }),
]);

/**
 * Identity providers (OpenID Connect) whose tokens are taken. The first of an issuer's rules that fits a token says who calls; a token that
 * none fits is nobody's. No role or tenant comes from a token but by a rule.
 */
const issuersFileSchema = z.strictObject({
  issuers: z
    .array(
      z.strictObject({
        /** As in the claim `iss`, to the letter. */
        issuer: issuerUrlSchema,
        audience: z.string().min(1),
        /** Absent: found at `/.well-known/openid-configuration` of the issuer. */
        jwksUri: issuerUrlSchema.optional(),
        /** Signatures only: with a shared secret, whoever verifies could sign, and a public key could be taken for one. */
        algorithms: z
          .array(
            z.enum([
              'RS256',
              'RS384',
              'RS512',
              'PS256',
              'PS384',
              'PS512',
              'ES256',
              'ES384',
              'ES512',
              'EdDSA',
              'Ed25519',
            ]),
          )
          .min(1),
        /** Since the token was issued. */
        maxAgeSeconds: z
          .int()
          .positive()
          .max(366 * 86_400),
        rules: z.array(ruleSchema).min(1).max(10_000),
      }),
    )
    .max(100)
    .refine((all) => new Set(all.map(({ issuer }) => issuer)).size === all.length, 'an issuer is listed twice'),
});
export type IssuersFile = z.infer<typeof issuersFileSchema>;
type Issuer = IssuersFile['issuers'][number];
type Rule = Issuer['rules'][number];

/** Room for the most rules that there may be. */
export const ISSUERS_FILE_BYTES_MAX = 4 * 1024 * 1024;

/** @throws {CfnError} `CFN_INPUT_INVALID` with the field that is wrong */
export function parseIssuersFile(bytes: Uint8Array): IssuersFile {
  let value: unknown;
  try {
    value = JSON.parse(fromUtf8(bytes));
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', 'the file of issuers is not JSON', { cause });
  }
  const parsed = issuersFileSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new CfnError(
    'CFN_INPUT_INVALID',
    `issuers file: ${issue?.path.join('.') || 'file'}: ${issue?.message ?? 'invalid'}`,
  );
}

export interface Issuers {
  /**
   * Who calls; `undefined` when the token names none of these issuers.
   *
   * @throws {CfnError} `CFN_TOKEN_INVALID`; `CFN_ISSUER_UNREACHABLE` when keys are needed that the issuer does not give now
   */
  verify(token: string): Promise<Caller | undefined>;
}

export interface IssuersDependencies {
  readonly now: () => Date;
  readonly monotonicMs: () => number;
  readonly fetch: typeof globalThis.fetch;
  /** How often keys are fetched at most, in ms. Set by tests. */
  readonly cooldownMs?: number;
}

export function issuers({ issuers: configured }: IssuersFile, deps: IssuersDependencies): Issuers {
  const known = new Map(configured.map((issuer) => [issuer.issuer, { issuer, keys: keysOf(issuer, deps) }]));
  return {
    async verify(token) {
      const found = known.get(claimedIssuer(token) ?? '');
      if (found === undefined) return undefined;
      const { issuer, keys } = found;
      try {
        const { payload } = await jwtVerify(token, keys, {
          algorithms: issuer.algorithms,
          issuer: issuer.issuer,
          audience: issuer.audience,
          maxTokenAge: issuer.maxAgeSeconds,
          requiredClaims: ['sub', 'exp', 'iat'],
          clockTolerance: ISSUER_SKEW_SECONDS,
          currentDate: deps.now(),
        });
        const caller = firstFit(issuer.rules, payload);
        if (caller !== undefined) return { ...caller, sub: `${issuer.issuer} ${payload.sub}` };
      } catch (cause) {
        if (cause instanceof CfnError) throw cause;
        throw new CfnError('CFN_TOKEN_INVALID', 'the token of the identity provider does not verify', { cause });
      }
      throw new CfnError('CFN_TOKEN_INVALID', 'the token verifies, but gives no role here');
    },
  };
}

/** Unverified: it says only whose keys the token must verify under. */
function claimedIssuer(token: string): string | undefined {
  try {
    return decodeJwt(token).iss;
  } catch {
    return undefined;
  }
}

type Granted =
  { readonly role: 'operator' } | { readonly role: (typeof TENANT_ROLES)[number]; readonly tenant: string };

function firstFit(rules: readonly Rule[], claims: Readonly<Record<string, unknown>>): Granted | undefined {
  const rule = rules.find(({ when }) => Object.entries(when).every(([name, text]) => holds(claims, name, text)));
  if (rule === undefined) return undefined;
  if (rule.role === 'operator') return { role: rule.role };
  const { role, tenant } = rule;
  if (typeof tenant === 'string') return { role, tenant };
  const named = nameSchema.safeParse(Object.hasOwn(claims, tenant.claim) ? claims[tenant.claim] : undefined);
  return named.success ? { role, tenant: named.data } : undefined;
}

function holds(claims: Readonly<Record<string, unknown>>, name: string, text: string): boolean {
  const value = Object.hasOwn(claims, name) ? claims[name] : undefined;
  return value === text || (Array.isArray(value) && value.includes(text));
}

/** The issuer's keys, by jose: cached, fetched anew for a key id that is not there, at most once in a while. */
function keysOf({ issuer, jwksUri }: Issuer, deps: IssuersDependencies): JWTVerifyGetKey {
  const { cooldownMs = ISSUER_FETCH.cooldownMs } = deps;
  const { get, failed } = restrained(deps, cooldownMs);
  let keys: Promise<JWTVerifyGetKey> | undefined;
  const open = async (): Promise<JWTVerifyGetKey> =>
    createRemoteJWKSet(new URL(jwksUri ?? (await discovered(issuer, get))), {
      timeoutDuration: ISSUER_FETCH.ms,
      cooldownDuration: cooldownMs,
      cacheMaxAge: ISSUER_FETCH.cacheMs,
      [customFetch]: get,
    });
  return async (header, token) => {
    try {
      keys ??= open();
      return await (
        await keys
      )(header, token);
    } catch (cause) {
      if (isRefusalOfKeys(cause)) throw cause;
      failed(cause);
      throw new CfnError('CFN_ISSUER_UNREACHABLE', `${issuer} does not give its keys`, { cause });
    } finally {
      // What could not be discovered is looked for again.
      void keys?.catch(() => (keys = undefined));
    }
  };
}

/** No key of this id, or several, or one that is not for this algorithm: the token's fault. */
function isRefusalOfKeys(cause: unknown): boolean {
  return (
    cause instanceof joseErrors.JWKSNoMatchingKey ||
    cause instanceof joseErrors.JWKSMultipleMatchingKeys ||
    cause instanceof joseErrors.JOSENotSupported
  );
}

async function discovered(issuer: string, get: Get): Promise<string> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
  const response = await get(url, {
    method: 'GET',
    redirect: 'manual',
    signal: AbortSignal.timeout(ISSUER_FETCH.ms),
  });
  if (response.status !== 200) throw new Error(`discovery answered ${response.status}`);
  const schema = z.object({ issuer: z.literal(issuer), jwks_uri: issuerUrlSchema });
  return schema.parse(await response.json()).jwks_uri;
}

type Get = (url: string, init: RequestInit) => Promise<Response>;

/**
 * Fetches no more than {@link ISSUER_FETCH}`.bytes`, and after a failure nothing for a while: tokens that name an issuer cost their sender
 * nothing, and must not become requests to an issuer that is down, or that answers with what are no keys.
 */
function restrained(
  { fetch, monotonicMs }: IssuersDependencies,
  cooldownMs: number,
): { readonly get: Get; readonly failed: (cause: unknown) => void } {
  const restraint = new CfnError('CFN_ISSUER_UNREACHABLE', 'the identity provider failed a moment ago');
  let failedMs = Number.NEGATIVE_INFINITY;
  return {
    async get(url, init) {
      if (monotonicMs() - failedMs < cooldownMs) throw restraint;
      const response = await fetch(url, init);
      return new Response(await boundedBody(response), { status: response.status });
    },
    failed(cause) {
      if (cause !== restraint) failedMs = monotonicMs();
    },
  };
}

async function boundedBody(response: Response): Promise<Buffer<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > ISSUER_FETCH.bytes) throw new Error(`an answer of the issuer is over ${ISSUER_FETCH.bytes} bytes`);
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
