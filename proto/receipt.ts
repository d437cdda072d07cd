import { compactVerify, importJWK, type CryptoKey } from 'jose';
import { z } from 'zod';
import { fromUtf8, toBase64url, utf8 } from './bytes.ts';
import { CfnError, isErrorCode } from './errors.ts';
import { digestSchema, modelReferenceSchema, nameSchema } from './manifest.ts';

const count = z.int().nonnegative();
/** What is summed, and charged: no request comes near it, and sums over thousands of receipts that say it are exact still. */
const summed = count.max(2 ** 40);
/** Workers write whole microseconds: at most three decimals. */
const milliseconds = z
  .number()
  .nonnegative()
  .max(2 ** 30);
const nameOrNone = z.union([nameSchema, z.literal('')]);

const egressUseSchema = z.strictObject({
  /** As in the manifest: with the port where that is not 443. */
  host: z.string(),
  calls: summed,
  /** Inside TLS: heads and bodies. */
  bytesSent: summed,
  bytesReceived: summed,
});
export type EgressUse = z.infer<typeof egressUseSchema>;

/** Claims of a receipt (design §7): what ran, on what, for which sealed bytes, and what was wiped. No payload. */
export const receiptSchema = z.strictObject({
  format: z.literal('cfn/receipt/v1'),
  /** Request id: 32 hexadecimal digits, chosen by the gateway. */
  id: z.string().regex(/^[0-9a-f]{32}$/),
  issuedAt: z.iso.datetime(),
  /** Worker id: digest of the worker keys document. */
  worker: digestSchema,
  tee: z.enum(['tdx', 'snp', 'simulated']),
  /** Digest of the newest evidence that the worker gave for admission; empty before the first. */
  evidence: z.union([digestSchema, z.literal('')]),
  /** Tenant and name are empty where the worker refused a version that it was not handed. */
  function: z.strictObject({ tenant: nameOrNone, name: nameOrNone, version: digestSchema }),
  /**
   * Model packages, with the digest of the policy under which their KMS released the key, and what was used of each: receipts from
   * before that was counted do not say it.
   */
  models: z.array(
    z.strictObject({
      binding: z.string(),
      model: modelReferenceSchema,
      digest: digestSchema,
      policy: digestSchema,
      usage: z.strictObject({ engineMs: milliseconds, engineCalls: summed }).optional(),
    }),
  ),
  /** SHA-256 and length of the sealed request: whole, or as far as it was read where it was refused. */
  request: z.strictObject({ digest: digestSchema, bytes: summed }),
  /** SHA-256 and length of the sealed response up to its final chunk, which carries this receipt. */
  response: z.strictObject({ digest: digestSchema, bytes: summed, status: z.int().min(100).max(599) }),
  /** `ok`, or the error code that the caller was answered with. */
  outcome: z.string().refine((value) => value === 'ok' || isErrorCode(value)),
  usage: z.strictObject({
    cpuMs: milliseconds,
    wallMs: milliseconds,
    /** Of all models. */
    engineMs: milliseconds,
    engineCalls: summed,
  }),
  /** Hosts that the function sent requests to, with what went over their connections; failed calls included. */
  egress: z.array(egressUseSchema),
  /** What was done after the answer; each claim is made by the code that did it. */
  wipe: z.strictObject({
    isolateDisposed: z.boolean(),
    sandboxBytesOverwritten: count,
    engineBytesOverwritten: count,
    agentBytesOverwritten: count,
  }),
  sequence: count,
  /** SHA-256 of the receipt (JWS) before this one from the same worker; empty for the first. */
  previous: z.union([digestSchema, z.literal('')]),
});
export type Receipt = z.infer<typeof receiptSchema>;

/**
 * Milliseconds of a receipt as whole microseconds, rounded to the nearest. Sums are made of these: integers give the same sum in every
 * order.
 */
export const microseconds = (ms: number): number => Math.round(ms * 1000);

const JWS_TYPE = 'cfn-receipt+jws';
/** Longest receipt: of all models and hosts that a manifest can name, it has some 44,000 characters. */
const JWS_CHARACTERS_MAX = 65_536;

/** Signs with Ed25519 (RFC 8032): 64 bytes. */
export type ReceiptSigner = (signingInput: Uint8Array<ArrayBuffer>) => Uint8Array | Promise<Uint8Array>;

/** A receipt as a compact JWS (RFC 7515 §7.1). The signer is the worker's, who has a faster one than WebCrypto. */
export async function signReceipt(receipt: Receipt, sign: ReceiptSigner): Promise<string> {
  const encode = (value: unknown): string => toBase64url(utf8(JSON.stringify(value)));
  const signingInput = `${encode({ alg: 'EdDSA', typ: JWS_TYPE })}.${encode(receipt)}`;
  return `${signingInput}.${toBase64url(await sign(utf8(signingInput)))}`;
}

/** Keys of the workers that were last heard of; importing one takes as long as a verification. */
const imported = new Map<string, CryptoKey>();
const IMPORTED_MAX = 256;

async function importKey(publicKey: string): Promise<CryptoKey> {
  const known = imported.get(publicKey);
  if (known !== undefined) return known;
  const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', x: publicKey }, 'EdDSA');
  if (!('algorithm' in key)) throw new TypeError('not a public key');
  if (imported.size >= IMPORTED_MAX) imported.clear();
  imported.set(publicKey, key);
  return key;
}

/**
 * Verifies a receipt's signature by the raw Ed25519 key (base64url) from an appraised worker keys document.
 *
 * @throws {CfnError} `CFN_RECEIPT_INVALID`
 */
export async function verifyReceipt(jws: string, publicKey: string): Promise<Receipt> {
  try {
    if (jws.length > JWS_CHARACTERS_MAX) throw new Error('length');
    const key = await importKey(publicKey);
    const { payload, protectedHeader } = await compactVerify(jws, key, { algorithms: ['EdDSA'] });
    if (protectedHeader.typ !== JWS_TYPE) throw new Error('typ');
    return receiptSchema.parse(JSON.parse(fromUtf8(payload)));
  } catch (cause) {
    throw new CfnError('CFN_RECEIPT_INVALID', 'the receipt does not verify under the receipt key of the worker', {
      cause,
    });
  }
}
