import { calculateJwkThumbprint, CompactSign, compactVerify, importJWK, type CryptoKey, type JWK } from 'jose';
import { z } from 'zod';
import { fromUtf8, utf8 } from './bytes.ts';
import { CfnError } from './errors.ts';
import { digestSchema } from './manifest.ts';

const HOUR_MS = 60 * 60_000;
const count = z.int().nonnegative();

/** Hours since 1970, UTC. */
export const hourOf = (date: Date): number => Math.floor(date.getTime() / HOUR_MS);
/** The start of an hour, RFC 3339. */
export const hourStart = (hour: number): string => new Date(hour * HOUR_MS).toISOString();

/**
 * The start of an hour: `2026-11-01`, `2026-11-01T13`, or RFC 3339 in UTC.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` for what is not one: a sum over part of an hour could not be held against a batch
 */
export function parseHour(text: string): number {
  const full = /^\d{4}-\d\d-\d\d$/.test(text) ? `${text}T00:00Z` : text.replace(/^(\d{4}-\d\d-\d\dT\d\d)$/, '$1:00Z');
  const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?Z$/.test(full) ? Date.parse(full) : NaN;
  if (Number.isNaN(ms) || ms < 0 || ms % HOUR_MS !== 0)
    throw new CfnError('CFN_INPUT_INVALID', `${text.slice(0, 40)} is not the start of an hour, such as 2026-11-01T13`);
  return ms / HOUR_MS;
}

/**
 * A batch: what the operator's ledger held of one hour when it was sealed. The root is that of a Merkle tree (RFC 9162 §2.1) over the
 * receipts (JWS as bytes), ordered by request id. Each batch names the one before it, so that none can be left out or replaced unseen.
 */
export const receiptBatchSchema = z.strictObject({
  format: z.literal('cfn/receipt-batch/v1'),
  /** Its start. Receipts that came late are in the hour in which they came. */
  hour: z.iso.datetime(),
  /** Number of receipts. */
  size: count.positive(),
  root: digestSchema,
  /** SHA-256 of the batch (JWS) before this one; empty for the first. */
  previous: z.union([digestSchema, z.literal('')]),
  sealedAt: z.iso.datetime(),
});
export type ReceiptBatch = z.infer<typeof receiptBatchSchema>;

/** That a receipt is in a batch. */
export const receiptProofSchema = z.strictObject({
  format: z.literal('cfn/receipt-proof/v1'),
  /** Request id. */
  id: z.string().regex(/^[0-9a-f]{32}$/),
  /** Place of the receipt in the batch. */
  index: count,
  /** RFC 9162 §2.1.3.1, from the leaf up. */
  path: z.array(digestSchema).max(64),
  /** JWS */
  batch: z.string(),
});
export type ReceiptProof = z.infer<typeof receiptProofSchema>;

export interface VerifiedBatch {
  readonly batch: ReceiptBatch;
  /** RFC 7638 thumbprint of the key that signed. Whether it is the operator's is the verifier's question. */
  readonly signer: string;
}

const JWS_TYPE = 'cfn-receipt-batch+jws';

/** Signs with a ledger's Ed25519 key, which travels in the header. */
export async function signBatch(batch: ReceiptBatch, key: CryptoKey, { x = '' }: JWK): Promise<string> {
  const payload = utf8(JSON.stringify(receiptBatchSchema.parse(batch)));
  return new CompactSign(payload)
    .setProtectedHeader({ alg: 'EdDSA', typ: JWS_TYPE, jwk: { kty: 'OKP', crv: 'Ed25519', x } })
    .sign(key);
}

/** @throws {CfnError} `CFN_BATCH_INVALID` when signature or content does not hold */
export async function verifyBatch(jws: string): Promise<VerifiedBatch> {
  try {
    let signer = '';
    const { payload, protectedHeader } = await compactVerify(
      jws,
      async ({ jwk }) => {
        if (jwk?.kty !== 'OKP' || jwk.crv !== 'Ed25519' || jwk.x === undefined) throw new Error('no Ed25519 key');
        const key = { kty: 'OKP', crv: 'Ed25519', x: jwk.x };
        signer = await calculateJwkThumbprint(key);
        return importJWK(key, 'EdDSA');
      },
      { algorithms: ['EdDSA'] },
    );
    if (protectedHeader.typ !== JWS_TYPE) throw new Error('typ');
    return { batch: receiptBatchSchema.parse(JSON.parse(fromUtf8(payload))), signer };
  } catch (cause) {
    throw new CfnError('CFN_BATCH_INVALID', 'the batch of receipts does not verify under the key it names', { cause });
  }
}
