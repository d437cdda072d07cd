import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { decodeJwt } from 'jose';
import { z } from 'zod';
import {
  CfnError,
  digestSchema,
  fromBase64url,
  fromHex,
  hourStart,
  microseconds,
  parseEvidence,
  parseHour,
  RECEIPT_BLOCK,
  receiptSchema,
  toHex,
  usageAnswerSchema,
  utf8,
  verifyBatch,
  verifyReceipt,
  type Receipt,
  type UsageRow,
  type VerifiedBatch,
} from '../proto/index.ts';
import { leafHash, merkleTree } from '../proto/node.ts';
import type { Api } from './api.ts';
import { appraise, type AppraisalPolicy } from './policy.ts';
import { demandSigner } from './receipt-proof.ts';
import { writeResultFile } from './result-file.ts';

export interface RecountOptions {
  readonly policy: AppraisalPolicy;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly ledgerKey?: string | undefined;
  /** File with the newest batch of the last time. */
  readonly checkpoint?: string | undefined;
  readonly cwd: string;
}

export interface Recounted {
  readonly from: string;
  readonly to: string;
  /** In the whole chain. */
  readonly batches: number;
  readonly signer: string;
  /** Sealed ones in the period that hold receipts, all receipts in them, and those that the caller may read. */
  readonly hours: number;
  readonly leaves: number;
  readonly receipts: number;
}

const headsSchema = z.strictObject({ batches: z.array(z.string()), more: z.boolean() });
const blockSchema = z.strictObject({
  leaves: z.array(z.union([z.strictObject({ receipt: z.string() }), z.strictObject({ leaf: digestSchema })])),
});

/**
 * Counts what the ledger sealed again, taking nothing of the gateway's word: the chain of batches, the tree of each hour, the signature of
 * each receipt of the caller under a worker key that appraised evidence binds, that none is there twice, and the sums by function.
 *
 * @throws {CfnError} `CFN_BATCH_INVALID` where chain, tree or sums do not hold; `CFN_RECEIPT_INVALID`, and what an appraisal refuses
 */
export async function recount(api: Api, options: RecountOptions): Promise<Recounted> {
  const chain = await readChain(api, options.ledgerKey);
  await holdCheckpoint(chain, options);
  const last = chain.at(-1);
  if (last === undefined) throw new CfnError('CFN_BATCH_NOT_SEALED', 'no hour is sealed yet');
  const from = options.from ?? chain[0]?.batch.hour ?? '';
  // Up to the newest sealed hour: what comes after it may still change.
  const sealedTo = hourStart(parseHour(last.batch.hour) + 1);
  const to = options.to !== undefined && parseHour(options.to) <= parseHour(sealedTo) ? options.to : sealedTo;

  const verifyWorker = workerKeys(api, options.policy);
  const sums = new Map<string, Required<UsageRow>>();
  const seen = new Set<string>();
  const hours = chain.filter(
    ({ batch }) => parseHour(batch.hour) >= parseHour(from) && parseHour(batch.hour) < parseHour(to),
  );
  let [receipts, leaves] = [0, 0];
  for (const { batch } of hours) {
    leaves += batch.size;
    for await (const jws of readHour(api, batch)) {
      const receipt = await verifyReceipt(jws, await verifyWorker(claimsOf(jws)));
      if (seen.has(receipt.id))
        throw new CfnError('CFN_BATCH_INVALID', `the receipt of request ${receipt.id} is in the ledger twice`);
      seen.add(receipt.id);
      add(sums, receipt);
      receipts += 1;
    }
  }
  await compareSums(api, from, to, sums);
  if (options.checkpoint !== undefined)
    await writeResultFile({ cwd: options.cwd, file: options.checkpoint }, last.jws, { mode: 0o600 });
  return { from, to, batches: chain.length, signer: last.signer, hours: hours.length, leaves, receipts };
}

type Link = VerifiedBatch & { readonly jws: string };

async function readChain(api: Api, ledgerKey: string | undefined): Promise<Link[]> {
  const chain: Link[] = [];
  for (let more = true; more;) {
    const after = chain.at(-1)?.batch.hour;
    const page = await api.json('GET', `/v1/batches${after === undefined ? '' : `?after=${after}`}`, headsSchema);
    for (const jws of page.batches) {
      const link = { ...(await verifyBatch(jws)), jws };
      const before = chain.at(-1);
      demandSigner(link, ledgerKey);
      const previous = before === undefined ? '' : createHash('sha256').update(before.jws).digest('hex');
      if (link.batch.previous !== previous || (before !== undefined && link.batch.hour <= before.batch.hour))
        throw new CfnError('CFN_BATCH_INVALID', `the batch of ${link.batch.hour} does not follow the one before it`);
      chain.push(link);
    }
    more = page.more && page.batches.length > 0;
  }
  return chain;
}

/** @throws {CfnError} `CFN_BATCH_INVALID` when what was kept last time is not in the chain */
async function holdCheckpoint(chain: readonly Link[], { checkpoint, cwd }: RecountOptions): Promise<void> {
  if (checkpoint === undefined) return;
  const kept = await readFile(resolve(cwd, checkpoint), 'utf8').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT') return undefined;
    throw new CfnError('CFN_USAGE', `cannot read ${checkpoint}`, { cause });
  });
  if (kept !== undefined && !chain.some(({ jws }) => jws === kept.trim()))
    throw new CfnError(
      'CFN_BATCH_INVALID',
      `the batch kept in ${checkpoint} is not in the chain: the ledger was put back or rewritten`,
    );
}

/**
 * The caller's receipts of an hour, a block at a time, which is what is in memory. They count only when it ends without a throw: then all leaves
 * made the root that was signed.
 */
async function* readHour(api: Api, batch: VerifiedBatch['batch']): AsyncGenerator<string> {
  const altered = (): CfnError =>
    new CfnError('CFN_BATCH_INVALID', `the receipts of the hour from ${batch.hour} are not those that were sealed`);
  const roots: Uint8Array[] = [];
  for (let left = batch.size; left > 0; left -= RECEIPT_BLOCK) {
    const { leaves } = await api.json('GET', `/v1/batches/${batch.hour}/blocks/${roots.length}`, blockSchema);
    if (leaves.length !== Math.min(left, RECEIPT_BLOCK)) throw altered();
    // A block is a full subtree, so its root stands for it in the tree of the hour.
    const hashes = leaves.map((entry) => ('leaf' in entry ? fromHex(entry.leaf) : leafHash(utf8(entry.receipt))));
    roots.push(merkleTree(hashes).root);
    for (const entry of leaves) if ('receipt' in entry) yield entry.receipt;
  }
  if (toHex(merkleTree(roots).root) !== batch.root) throw altered();
}

/** The receipt key of a worker, once per worker, from evidence that holds as of the receipt. */
function workerKeys(api: Api, policy: AppraisalPolicy): (claimed: Receipt) => Promise<string> {
  const known = new Map<string, Promise<string>>();
  async function look({ worker, evidence: digest, issuedAt }: Receipt): Promise<string> {
    const evidence = parseEvidence((await api.bytes(`/.well-known/cfn/evidence/${digest}`)).bytes);
    const nonce = fromBase64url(evidence.nonce, 'CFN_EVIDENCE_MALFORMED');
    const result = await appraise(evidence, { nonce, policy, now: new Date(issuedAt) });
    if (result.workerId !== worker)
      throw new CfnError('CFN_RECEIPT_INVALID', `the evidence that a receipt of worker ${worker} names is of another`);
    return result.workerKeys.receipt.publicKey;
  }
  return (claimed) => {
    const key = known.get(claimed.worker) ?? look(claimed);
    known.set(claimed.worker, key);
    return key;
  };
}

function add(sums: Map<string, Required<UsageRow>>, receipt: Receipt): void {
  const { function: ran, usage, request, response, egress, outcome } = receipt;
  const subject = ran.tenant === '' ? '' : `${ran.tenant}/${ran.name}`;
  const sum = sums.get(subject);
  sums.set(subject, {
    subject,
    requests: (sum?.requests ?? 0) + 1,
    failed: (sum?.failed ?? 0) + (outcome === 'ok' ? 0 : 1),
    engineCalls: (sum?.engineCalls ?? 0) + usage.engineCalls,
    engineMicroseconds: (sum?.engineMicroseconds ?? 0) + microseconds(usage.engineMs),
    cpuMicroseconds: (sum?.cpuMicroseconds ?? 0) + microseconds(usage.cpuMs),
    requestBytes: (sum?.requestBytes ?? 0) + request.bytes,
    responseBytes: (sum?.responseBytes ?? 0) + response.bytes,
    egressBytes:
      (sum?.egressBytes ?? 0) +
      egress.reduce((bytes, { bytesSent, bytesReceived }) => bytes + bytesSent + bytesReceived, 0),
  });
}

async function compareSums(api: Api, from: string, to: string, sums: ReadonlyMap<string, UsageRow>): Promise<void> {
  const seen = new Set<string>();
  for (let after: string | undefined, more = true; more; more = after !== undefined) {
    const query = new URLSearchParams({ by: 'function', from, to, ...(after === undefined ? {} : { after }) });
    const page = await api.json('GET', `/v1/usage?${query.toString()}`, usageAnswerSchema);
    for (const row of page.usage) {
      seen.add(row.subject);
      const counted = sums.get(row.subject);
      const wrong = Object.entries(row).find(([name, value]) => counted?.[name as keyof UsageRow] !== value);
      if (wrong !== undefined) {
        const [name, value] = wrong;
        const own = String(counted?.[name as keyof UsageRow] ?? 'nothing');
        throw new CfnError(
          'CFN_BATCH_INVALID',
          `${row.subject}: ${name} is charged as ${value}, the receipts come to ${own}`,
        );
      }
    }
    after = page.next;
  }
  const uncharged = [...sums.keys()].find((subject) => !seen.has(subject));
  if (uncharged !== undefined)
    throw new CfnError('CFN_BATCH_INVALID', `${uncharged} has receipts, and is not among what is charged`);
}

function claimsOf(jws: string): Receipt {
  try {
    return receiptSchema.parse(decodeJwt(jws));
  } catch (cause) {
    throw new CfnError('CFN_RECEIPT_INVALID', 'the ledger gave what is no receipt', { cause });
  }
}
