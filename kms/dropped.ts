import { importJWK, jwtVerify } from 'jose';
import { z } from 'zod';
import { CfnError, digestSchema } from '../proto/index.ts';
import type { StoredLease } from './store.ts';

/** What a worker states when a model's key and the engine that held it are gone. A JWT, so that any tool can read it. */
const claimsSchema = z.strictObject({
  lease: z.string(),
  worker: digestSchema,
  /** Why, in the worker's words: `revoked`, `expired`, `stopped`. */
  reason: z.string().max(200),
  iat: z.int(),
});
const JWT_TYPE = 'cfn-key-dropped+jwt';

/**
 * Verifies that the worker which held the lease says that the key is gone.
 *
 * @throws {CfnError} `CFN_RECEIPT_INVALID` when another key signed it, or it speaks of another lease or worker
 */
export async function verifyDropped(statement: string, lease: StoredLease, now: Date): Promise<void> {
  try {
    const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', x: lease.receiptKey }, 'EdDSA');
    const options = { algorithms: ['EdDSA', 'Ed25519'], typ: JWT_TYPE, currentDate: now };
    const { payload } = await jwtVerify(statement, key, options);
    const claims = claimsSchema.parse(payload);
    if (claims.lease !== lease.id || claims.worker !== lease.worker)
      throw new Error('it names another lease or worker');
  } catch (cause) {
    throw new CfnError('CFN_RECEIPT_INVALID', 'the statement is not one by the worker that held this lease', { cause });
  }
}
