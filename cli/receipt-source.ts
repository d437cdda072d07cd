import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { z } from 'zod';
import {
  CfnError,
  fromUtf8,
  receiptArchiveSchema,
  receiptProofSchema,
  utf8,
  EVIDENCE_BYTES_MAX,
  MANIFEST_BYTES_MAX,
  type ReceiptArchive,
  type ReceiptProof,
} from '../proto/index.ts';
import type { Api } from './api.ts';

/** A receipt, and where what it takes to verify it comes from. */
export interface ReceiptSource {
  readonly jws: string;
  /** Exact bytes of the evidence with this digest. */
  evidence(digest: string): Promise<Uint8Array>;
  readonly archive: ReceiptArchive | undefined;
}

const ARCHIVE_BYTES_MAX = 2 * (EVIDENCE_BYTES_MAX + MANIFEST_BYTES_MAX);

/**
 * From an archive, a receipt in a file, or the gateway by its request id.
 *
 * @param gateway gives the gateway; not called for an archive
 * @throws {CfnError} `CFN_USAGE`, `CFN_RECEIPT_INVALID`, and what the gateway answers
 */
export async function readReceipt(source: string, cwd: string, gateway: () => Api): Promise<ReceiptSource> {
  const fetchEvidence = async (digest: string): Promise<Uint8Array> => {
    if (digest === '') throw new CfnError('CFN_RECEIPT_INVALID', 'the receipt names no evidence');
    return (await gateway().bytes(`/.well-known/cfn/evidence/${digest}`)).bytes;
  };
  const file = resolve(cwd, source);
  const found = await stat(file).catch(() => undefined);
  if (found === undefined) {
    const id = requestId(source);
    const { bytes } = await gateway().bytes(`/.well-known/cfn/receipts/${id}`);
    return { jws: asText(bytes), evidence: fetchEvidence, archive: undefined };
  }
  const text = await readText(file, source);
  if (!text.startsWith('{')) return { jws: text, evidence: fetchEvidence, archive: undefined };
  const archive = parse(text, receiptArchiveSchema, source);
  return { jws: archive.receipt, evidence: async () => utf8(archive.evidence), archive };
}

/** @throws {CfnError} `CFN_RECEIPT_INVALID` */
export async function readProof(source: string, cwd: string): Promise<ReceiptProof> {
  return parse(await readText(resolve(cwd, source), source), receiptProofSchema, source);
}

/** @throws {CfnError} `CFN_USAGE` */
export function requestId(source: string): string {
  if (!/^[0-9a-f]{32}$/.test(source))
    throw new CfnError(
      'CFN_USAGE',
      `${source.slice(0, 200)} is neither a file nor a request id (32 hexadecimal digits)`,
    );
  return source;
}

async function readText(file: string, source: string): Promise<string> {
  const found = await stat(file).catch(() => undefined);
  if (found?.isFile() !== true || found.size > ARCHIVE_BYTES_MAX)
    throw new CfnError('CFN_RECEIPT_INVALID', `${source} is not a receipt`);
  return asText(await readFile(file));
}

function parse<T>(text: string, schema: z.ZodType<T>, source: string): T {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new CfnError('CFN_RECEIPT_INVALID', `${source} is neither a receipt nor what belongs to one`, { cause });
  }
}

export const asText = (bytes: Uint8Array): string => fromUtf8(bytes, 'CFN_RECEIPT_INVALID').trim();
