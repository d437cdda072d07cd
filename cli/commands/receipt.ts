import type { Command } from 'commander';
import { decodeJwt } from 'jose';
import { verifyReceiptAgainst } from '../../client/index.ts';
import {
  CfnError,
  fromBase64url,
  fromUtf8,
  parseEvidence,
  receiptProofSchema,
  receiptSchema,
  REQUEST_SKEW_MS_MAX,
  verifyManifest,
  type Receipt,
  type ReceiptArchive,
  type VerifiedBatch,
} from '../../proto/index.ts';
import { apiClient } from '../api.ts';
import type { Cli } from '../context.ts';
import { appraise, readPolicy, type AttestationResult } from '../policy.ts';
import { verifyProof } from '../receipt-proof.ts';
import { claimLines, receiptLines } from '../receipt-report.ts';
import { asText, readProof, readReceipt, requestId } from '../receipt-source.ts';
import { writeResultFile } from '../result-file.ts';
import { need, resolveSettings, settingOptions, type Settings } from '../settings.ts';
import { trustJson, trustLines } from '../trust-report.ts';

export function register(program: Command, cli: Cli): void {
  const receipt = program.command('receipt').description('Verify a receipt: where did my data go?');
  const command = receipt
    .command('verify')
    .description('Verify a receipt against the evidence it names, and say in plain words where the data went')
    .argument(
      '<file|request-id>',
      'a receipt as `cfn invoke --receipt-out` writes it, an archive as `cfn receipt fetch` does, or the id of a request',
    )
    .option('--proof <file>', 'that the ledger holds it: as /.well-known/cfn/receipts/ID/proof says it')
    .option('--ledger-key <thumbprint>', 'whose batches of receipts you accept')
    .option('--offline', 'ask nobody: an archive has all it takes')
    .action((source: string, options: VerifyOptions) => verify(source, options, cli));
  settingOptions(command, 'gateway', 'policy');
  const fetching = receipt
    .command('fetch')
    .description('Keep a receipt with all that it takes to verify it years later, in one file')
    .argument('<request-id>')
    .requiredOption('--out <file>', 'where to write it')
    .option('--without-proof', 'do not wait until its hour is sealed')
    .action((id: string, options: FetchOptions) => fetchArchive(id, options, cli));
  settingOptions(fetching, 'gateway');
}

interface VerifyOptions extends Record<string, unknown> {
  readonly proof?: string;
  readonly ledgerKey?: string;
  readonly offline?: boolean;
}
interface FetchOptions extends Record<string, unknown> {
  readonly out: string;
  readonly withoutProof?: boolean;
}

async function verify(from: string, options: VerifyOptions, { context, output }: Cli): Promise<void> {
  const settings = await resolveSettings(options, context);
  const policy = await readPolicy(need(settings, 'policy'));
  const source = await readReceipt(from, context.cwd, () => {
    if (options.offline === true)
      throw new CfnError(
        'CFN_USAGE',
        `${from.slice(0, 200)} is no archive: offline there is nobody to ask for its evidence`,
      );
    return gateway(settings, { context });
  });
  const { jws, archive } = source;
  const claimed = unverifiedClaims(jws);
  const issuedAt = new Date(claimed.issuedAt);
  if (issuedAt.getTime() > context.now().getTime() + REQUEST_SKEW_MS_MAX) {
    throw new CfnError('CFN_RECEIPT_INVALID', `the receipt is of ${claimed.issuedAt}, which is yet to come`);
  }

  const evidence = parseEvidence(await source.evidence(claimed.evidence));
  // As of the time in the receipt: worker keys live for a day, receipts for years.
  const worker = await appraise(evidence, {
    nonce: fromBase64url(evidence.nonce, 'CFN_EVIDENCE_MALFORMED'),
    policy,
    now: issuedAt,
  });
  if (worker.evidenceDigest !== claimed.evidence) {
    throw new CfnError(
      'CFN_RECEIPT_INVALID',
      `the receipt names evidence ${claimed.evidence}, what came is ${worker.evidenceDigest}`,
    );
  }
  const { receipt } = await verifyReceiptAgainst({
    jws,
    workerKeys: worker.workerKeys,
    workerId: worker.workerId,
    tee: worker.tee,
  });
  if (archive !== undefined && (await verifyManifest(archive.manifest)).version !== receipt.function.version)
    throw new CfnError('CFN_RECEIPT_INVALID', 'the manifest in the archive is of another function version');
  const proof = options.proof === undefined ? archive?.proof : await readProof(options.proof, context.cwd);
  const batch = proof && (await verifyProof(jws, receipt.id, proof, options.ledgerKey));
  print(receipt, worker, { batch, isPinned: options.ledgerKey !== undefined }, output);
}

async function fetchArchive(id: string, options: FetchOptions, { context, output }: Cli): Promise<void> {
  const api = gateway(await resolveSettings(options, context), { context });
  const path = `/.well-known/cfn/receipts/${requestId(id)}`;
  const receipt = asText((await api.bytes(path)).bytes);
  const { evidence, function: ran } = unverifiedClaims(receipt);
  const archive: ReceiptArchive = {
    format: 'cfn/receipt-archive/v1',
    receipt,
    evidence: fromUtf8((await api.bytes(`/.well-known/cfn/evidence/${evidence}`)).bytes, 'CFN_EVIDENCE_MALFORMED'),
    manifest: asText((await api.bytes(`/.well-known/cfn/manifests/${ran.version}`)).bytes),
    ...(options.withoutProof === true ? {} : { proof: await api.json('GET', `${path}/proof`, receiptProofSchema) }),
  };
  await writeResultFile({ cwd: context.cwd, file: options.out }, JSON.stringify(archive), { mode: 0o600 });
  output.result({ id, file: options.out, proven: archive.proof !== undefined }, [
    `wrote ${options.out}: nothing in it was verified yet, \`cfn receipt verify ${options.out} --offline\` does that`,
  ]);
}

interface InLedger {
  readonly batch: VerifiedBatch | undefined;
  readonly isPinned: boolean;
}

function print(
  receipt: Receipt,
  worker: AttestationResult,
  { batch, isPinned }: InLedger,
  output: Cli['output'],
): void {
  const notProven = [
    'that the evidence was fresh: its nonce was chosen by whoever asked for it then',
    'that the receipt is of your request: `cfn invoke` compared the digests of the sealed bytes when it got the answer',
    ...(batch === undefined ? ['that the ledger holds it: no proof was given'] : []),
    ...(batch !== undefined && !isPinned ? ['that the operator sealed that batch: --ledger-key was not given'] : []),
  ];
  output.result(
    {
      verified: true,
      simulated: worker.simulated,
      receipt,
      worker: trustJson(worker),
      appraisedAsOf: receipt.issuedAt,
      ledger: batch === undefined ? null : { ...batch.batch, signer: batch.signer },
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
      ...(batch === undefined
        ? []
        : [
            `The ledger holds it: it is one of the ${batch.batch.size} receipts of the hour from ${batch.batch.hour}, sealed by key ${batch.signer}.`,
          ]),
      '',
      output.colors.bold('Not proven by this'),
      ...notProven.map((text) => `  ${text}`),
      '',
      output.colors.bold('Every claim'),
      ...claimLines(receipt),
    ],
  );
}

/** Claims that nobody has vouched for yet: they only say which evidence to ask for. */
function unverifiedClaims(jws: string): Receipt {
  try {
    return receiptSchema.parse(decodeJwt(jws));
  } catch (cause) {
    throw new CfnError('CFN_RECEIPT_INVALID', 'this is not a receipt', { cause });
  }
}

function gateway(settings: Settings, { context }: Pick<Cli, 'context'>): ReturnType<typeof apiClient> {
  return apiClient({ service: 'gateway', url: need(settings, 'gateway'), fetch: context.fetch, signal: context.ended });
}
