import { compactVerify, importJWK } from 'jose';
import { z } from 'zod';
import { CfnError, isErrorCode } from './errors.ts';
import { fromUtf8, toHex, utf8 } from './bytes.ts';
import { frame, sha256 } from './hash.ts';
import { digestSchema, nameSchema } from './manifest.ts';

/** What a KMS decided or was told. The chain of an owner holds what concerns that owner; the KMS's own chain the rest. */
export const auditEntrySchema = z.strictObject({
  at: z.iso.datetime(),
  decision: z.enum([
    'owner-added',
    'quotas-set',
    'policy-set',
    'token-made',
    'token-revoked',
    'key-stored',
    'secrets-put',
    'secret-deleted',
    'keys-rotated',
    'root-rotated',
    'granted',
    'grant-removed',
    'released',
    'renewed',
    'refused',
    'revoked',
    'dropped',
    'withdrawn',
    'resource-stored',
    'resource-released',
    'resource-removed',
    'restored',
  ]),
  /** Why it was refused. */
  code: z.custom<string>(isErrorCode).optional(),
  /** How many such refusals, when more came than are noted one by one. */
  count: z.int().positive().optional(),
  owner: nameSchema.optional(),
  /** Of the model package, or of the function's secrets. */
  digest: digestSchema.optional(),
  tenant: nameSchema.optional(),
  function: nameSchema.optional(),
  version: digestSchema.optional(),
  worker: digestSchema.optional(),
  lease: z.string().max(64).optional(),
  grant: z.string().max(64).optional(),
  /** Invocations under the lease so far, as its worker signed; and how many the grant allows it. */
  used: z.int().nonnegative().optional(),
  allowed: z.int().nonnegative().optional(),
  /** What was set, made, revoked or released: a resource, a token's id, a policy's digest, a key's version, names of secrets. */
  subject: z.string().max(3000).optional(),
});
export type AuditEntry = z.infer<typeof auditEntrySchema>;

/** One line of an exported log. `hash` is that of {@link auditLink}. */
const auditLineSchema = z.strictObject({
  /** The owner; empty: the KMS itself. */
  namespace: z.union([nameSchema, z.literal('')]),
  seq: z.int().positive(),
  hash: digestSchema,
  entry: auditEntrySchema,
});
export type AuditLine = z.infer<typeof auditLineSchema>;

/** What a checkpoint (JWS by the KMS's audit key) says: the log `namespace` had this hash at `seq`, its newest entry then. */
export const auditCheckpointSchema = z.strictObject({
  namespace: auditLineSchema.shape.namespace,
  seq: z.int().positive(),
  hash: digestSchema,
  at: z.iso.datetime(),
});
export type AuditCheckpoint = z.infer<typeof auditCheckpointSchema>;
export const AUDIT_CHECKPOINT_TYPE = 'cfn-kms-audit+jws';

/** GET /v1/audit?after=SEQ: a page of the caller's log, the checkpoints in it, and the newest checkpoint of all. */
export const auditPageSchema = z.strictObject({
  lines: z.array(auditLineSchema).max(1000),
  checkpoints: z.array(z.string().max(1000)),
  head: z.string().max(1000).optional(),
});
export type AuditPage = z.infer<typeof auditPageSchema>;

/** What is hashed for an entry: SHA-256 of this. It holds the hash before (32 bytes; zeros at the start). @param entry as JSON */
export function auditLink(namespace: string, seq: number, entry: string, before?: Uint8Array): Uint8Array<ArrayBuffer> {
  return frame('cfn/kms-audit/v1', before ?? new Uint8Array(32), utf8(namespace), utf8(String(seq)), utf8(entry));
}

export interface VerifiedAudit {
  readonly namespace: string;
  readonly entries: number;
  /** Of the last entry: to be kept elsewhere, and given as `since` the next time. */
  readonly checkpoint: string;
}

/**
 * Verifies an exported log: one JSON document a line, entries in order from the first and, anywhere, checkpoints (`{"checkpoint": JWS}`).
 * Every entry must hash to its own hash over the one before, every checkpoint be signed by `auditKey` and name the hash of its
 * entry, and the newest one the last entry.
 *
 * @param auditKey raw Ed25519, base64url
 * @param since a checkpoint that was kept: without one, a log that was cut together with its newer checkpoints verifies
 * @throws {CfnError} `CFN_AUDIT_ALTERED`, naming the line
 */
export async function verifyAudit(
  lines: AsyncIterable<string> | Iterable<string>,
  auditKey: string,
  since?: string,
): Promise<VerifiedAudit> {
  const statements: { readonly text: string; readonly line: number }[] = [];
  const hashes: string[] = [];
  let namespace: string | undefined;
  let before: Uint8Array | undefined;
  let at = 0;
  for await (const text of lines) {
    at++;
    const value = parseLine(text, at);
    if ('checkpoint' in value) {
      statements.push({ text: value.checkpoint, line: at });
      continue;
    }
    namespace ??= value.namespace;
    if (value.namespace !== namespace) throw altered(at, 'it is of another log');
    if (value.seq !== hashes.length + 1) throw altered(at, `it has number ${value.seq}, expected ${hashes.length + 1}`);
    before = await sha256(auditLink(namespace, value.seq, JSON.stringify(value.entry), before));
    if (toHex(before) !== value.hash) throw altered(at, 'entry or order were changed');
    hashes.push(value.hash);
  }
  const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', x: auditKey }, 'EdDSA');
  let newest: { readonly text: string; readonly seq: number } | undefined;
  for (const { text, line } of since === undefined ? statements : [...statements, { text: since, line: 0 }]) {
    const what = line === 0 ? 'the checkpoint that was kept' : line;
    const checkpoint = await openCheckpoint(text, key, what);
    if (checkpoint.namespace !== (namespace ?? '')) throw altered(what, 'it is of another log');
    if (hashes[checkpoint.seq - 1] !== checkpoint.hash)
      throw altered(what, `entry ${checkpoint.seq} is missing or another one`);
    if (line !== 0 && checkpoint.seq > (newest?.seq ?? 0)) newest = { text, seq: checkpoint.seq };
  }
  if (newest?.seq !== hashes.length || namespace === undefined)
    throw altered(at, `the log has ${hashes.length} entries, its newest checkpoint is for ${newest?.seq ?? 'none'}`);
  return { namespace, entries: hashes.length, checkpoint: newest.text };
}

const exportedSchema = z.union([z.strictObject({ checkpoint: z.string().max(1000) }), auditLineSchema]);

function parseLine(text: string, at: number): z.infer<typeof exportedSchema> {
  try {
    const value: unknown = JSON.parse(text);
    // A member twice, or written otherwise, could be read otherwise by other tools.
    if (JSON.stringify(value) !== text) throw new Error('not as it was written');
    exportedSchema.parse(value);
    return value as z.infer<typeof exportedSchema>; // not zod's copy: its members are in another order than what was hashed
  } catch (cause) {
    throw altered(at, 'it is no line of a log', cause);
  }
}

async function openCheckpoint(
  text: string,
  key: Awaited<ReturnType<typeof importJWK>>,
  what: number | string,
): Promise<AuditCheckpoint> {
  try {
    const { payload, protectedHeader } = await compactVerify(text, key, { algorithms: ['EdDSA'] });
    if (protectedHeader.typ !== AUDIT_CHECKPOINT_TYPE) throw new Error(`typ is ${String(protectedHeader.typ)}`);
    return auditCheckpointSchema.parse(JSON.parse(fromUtf8(payload)));
  } catch (cause) {
    throw altered(what, 'the checkpoint is not by this audit key', cause);
  }
}

const altered = (line: number | string, what: string, cause?: unknown): CfnError =>
  new CfnError('CFN_AUDIT_ALTERED', `${typeof line === 'number' ? `line ${line}` : line}: ${what}`, { cause });
