import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { decodeJwt } from 'jose';
import { verifyReceiptAgainst } from '../../client/index.ts';
import {
  CfnError,
  fromBase64url,
  fromUtf8,
  parseEvidence,
  receiptSchema,
  REQUEST_SKEW_MS_MAX,
  type Receipt,
} from '../../proto/index.ts';
import { apiClient } from '../api.ts';
import type { Cli } from '../context.ts';
import { appraise, readPolicy, type AttestationResult } from '../policy.ts';
import { claimLines, receiptLines } from '../receipt-report.ts';
import { need, resolveSettings, settingOptions, type Settings } from '../settings.ts';
import { trustJson, trustLines } from '../trust-report.ts';

/** A receipt is a few hundred bytes of claims; this refuses what is none. */
const RECEIPT_BYTES_MAX = 256 * 1024;

export function register(program: Command, cli: Cli): void {
  const receipt = program.command('receipt').description('Verify a receipt: where did my data go?');
  const command = receipt
    .command('verify')
    .description('Verify a receipt against the evidence it names, and say in plain words where the data went')
    .argument('<file|request-id>', 'a receipt as `cfn invoke --receipt-out` writes it, or the id of a request')
    .action((source: string, options: Record<string, unknown>) => verify(source, options, cli));
  settingOptions(command, 'gateway', 'policy');
}

async function verify(source: string, options: Record<string, unknown>, { context, output }: Cli): Promise<void> {
  const settings = await resolveSettings(options, context);
  const policy = await readPolicy(need(settings, 'policy'));
  const jws = await readReceipt(source, settings, { context });
  const claimed = unverifiedClaims(jws);
  const issuedAt = new Date(claimed.issuedAt);
  if (issuedAt.getTime() > context.now().getTime() + REQUEST_SKEW_MS_MAX) {
    throw new CfnError('CFN_RECEIPT_INVALID', `the receipt is of ${claimed.issuedAt}, which is yet to come`);
  }

  const evidence = parseEvidence(await fetchEvidence(claimed, settings, { context }));
  // As of the time in the receipt: worker keys live for a day, receipts for years.
  const worker = await appraise(evidence, {
    nonce: fromBase64url(evidence.nonce, 'CFN_EVIDENCE_MALFORMED'),
    policy,
    now: issuedAt,
  });
  if (worker.evidenceDigest !== claimed.evidence) {
    throw new CfnError(
      'CFN_RECEIPT_INVALID',
      `the receipt names evidence ${claimed.evidence}, the gateway gave ${worker.evidenceDigest}`,
    );
  }
  const { receipt } = await verifyReceiptAgainst({
    jws,
    workerKeys: worker.workerKeys,
    workerId: worker.workerId,
    tee: worker.tee,
  });
  print(receipt, worker, output);
}

function print(receipt: Receipt, worker: AttestationResult, output: Cli['output']): void {
  const notProven = [
    'that the evidence was fresh: its nonce was chosen by whoever asked for it then',
    'that the receipt is of your request: `cfn invoke` compared the digests of the sealed bytes when it got the answer',
  ];
  output.result(
    {
      verified: true,
      simulated: worker.simulated,
      receipt,
      worker: trustJson(worker),
      appraisedAsOf: receipt.issuedAt,
      notProven,
    },
    [
      ...(worker.simulated ? ['SIMULATED: no hardware vouches for what follows.', ''] : []),
      output.colors.bold('Where did my data go?'),
      ...receiptLines(receipt),
      '',
      output.colors.bold('Who says so'),
      `The worker signed this with a key that its evidence binds; the evidence was appraised under your policy as of ${receipt.issuedAt}.`,
      ...trustLines(worker),
      '',
      output.colors.bold('Not proven by this'),
      ...notProven.map((text) => `  ${text}`),
      '',
      output.colors.bold('Every claim'),
      ...claimLines(receipt),
    ],
  );
}

async function readReceipt(source: string, settings: Settings, { context }: Pick<Cli, 'context'>): Promise<string> {
  const file = resolve(context.cwd, source);
  const found = await stat(file).catch(() => undefined);
  if (found === undefined) {
    if (!/^[0-9a-f]{32}$/.test(source))
      throw new CfnError(
        'CFN_USAGE',
        `${source.slice(0, 200)} is neither a file nor a request id (32 hexadecimal digits)`,
      );
    return text((await gateway(settings, { context }).bytes(`/.well-known/cfn/receipts/${source}`)).bytes);
  }
  if (!found.isFile() || found.size > RECEIPT_BYTES_MAX)
    throw new CfnError('CFN_RECEIPT_INVALID', `${source} is not a receipt`);
  return text(await readFile(file));
}

/** Claims that nobody has vouched for yet: they only say which evidence to ask for. */
function unverifiedClaims(jws: string): Receipt {
  try {
    return receiptSchema.parse(decodeJwt(jws));
  } catch (cause) {
    throw new CfnError('CFN_RECEIPT_INVALID', 'this is not a receipt', { cause });
  }
}

async function fetchEvidence(
  { evidence }: Receipt,
  settings: Settings,
  { context }: Pick<Cli, 'context'>,
): Promise<Uint8Array> {
  if (evidence === '') throw new CfnError('CFN_RECEIPT_INVALID', 'the receipt names no evidence');
  return (await gateway(settings, { context }).bytes(`/.well-known/cfn/evidence/${evidence}`)).bytes;
}

function gateway(settings: Settings, { context }: Pick<Cli, 'context'>): ReturnType<typeof apiClient> {
  return apiClient({ service: 'gateway', url: need(settings, 'gateway'), fetch: context.fetch, signal: context.ended });
}

const text = (bytes: Uint8Array): string => fromUtf8(bytes, 'CFN_RECEIPT_INVALID').trim();
