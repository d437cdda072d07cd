import { importJWK, jwtVerify, SignJWT, type CryptoKey } from 'jose';
import { z } from 'zod';
import { CfnError } from './errors.ts';
import { sealedSchema } from './kms-api.ts';
import { digestSchema } from './manifest.ts';

const about = { worker: digestSchema, iat: z.int() };
const used = z.int().nonnegative();

/**
 * What a worker tells a KMS, signed by the receipt key that its evidence bound. JWTs, so that any tool can read them; each kind has a
 * `typ` of its own.
 */
const STATEMENTS = {
  /** The key and the engine that held it are gone. `used`: invocations under the lease, all in all. `reason`: a code. */
  'cfn-key-dropped+jwt': z.strictObject({
    ...about,
    lease: z.string(),
    reason: z.string().max(200),
    used: used.optional(),
  }),
  /** Invocations under a lease so far; fresh for one renewal, by its challenge. */
  'cfn-usage+jwt': z.strictObject({ ...about, lease: z.string(), challenge: z.string(), used }),
  /** Asks to be told of the worker's leases; `answerKey` is sealed to the KMS and proves what it tells. */
  'cfn-lease-events+jwt': z.strictObject({ ...about, challenge: z.string(), answerKey: sealedSchema }),
} as const;
export type StatementType = keyof typeof STATEMENTS;
export type Statement<T extends StatementType> = z.infer<(typeof STATEMENTS)[T]>;

/** @param key the worker's receipt key */
export function signStatement<T extends StatementType>(
  typ: T,
  claims: Omit<Statement<T>, 'iat'>,
  key: CryptoKey,
  now: Date,
): Promise<string> {
  return new SignJWT({ ...claims }).setProtectedHeader({ alg: 'EdDSA', typ }).setIssuedAt(now).sign(key);
}

/**
 * Verifies a statement of a worker.
 *
 * @param by its receipt key (raw Ed25519, base64url) and id
 * @throws {CfnError} `CFN_RECEIPT_INVALID` when another key signed it, or it is of another kind or worker
 */
export async function verifyStatement<T extends StatementType>(
  typ: T,
  statement: string,
  by: { readonly receiptKey: string; readonly worker: string },
  now: Date,
): Promise<Statement<T>> {
  try {
    const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', x: by.receiptKey }, 'EdDSA');
    const options = { algorithms: ['EdDSA', 'Ed25519'], typ, currentDate: now };
    const claims = STATEMENTS[typ].parse((await jwtVerify(statement, key, options)).payload);
    if (claims.worker !== by.worker) throw new Error('it names another worker');
    return claims as Statement<T>;
  } catch (cause) {
    throw new CfnError('CFN_RECEIPT_INVALID', 'the statement is not one by this worker', { cause });
  }
}
