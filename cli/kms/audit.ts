import { createReadStream } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { auditPageSchema, type AuditPage, CfnError, kmsInfoSchema, verifyAudit } from '../../proto/index.ts';
import { kmsApi, type Api } from '../api.ts';
import type { Cli } from '../context.ts';
import { resolveSettings, settingOptions } from '../settings.ts';

/** `cfn kms audit export` and `verify`: with an owner's token that owner's log, with the administrator's the KMS's own. */
export function registerAudit(kms: Command, cli: Cli): void {
  const audit = kms.command('audit').description('Export and verify the audit log of your namespace');
  const exported = audit
    .command('export')
    .description('Write the whole log as JSON lines, with its checkpoints')
    .option('--out <file>', 'a new file (default: stdout)')
    .action((options: ExportOptions) => exportAction(options, cli));
  settingOptions(exported, 'kms', 'kmsToken');
  const verify = audit
    .command('verify')
    .description('Find any edit, cut or reordering in a log: in a file that was exported, or as the KMS gives it now')
    .argument('[file]', 'what `export` wrote')
    .option('--audit-key <key>', "the KMS's audit key, base64url, as you noted it (default: what the KMS says)")
    .option(
      '--since <file>',
      'a checkpoint that you kept: without one, a cut of entries and checkpoints together is not seen',
    )
    .action((file: string | undefined, options: VerifyOptions) => verifyAction(file, options, cli));
  settingOptions(verify, 'kms', 'kmsToken');
}

interface ExportOptions {
  readonly out?: string;
}
interface VerifyOptions {
  readonly auditKey?: string;
  readonly since?: string;
}

async function exportAction(options: ExportOptions, cli: Cli): Promise<void> {
  const { context } = cli;
  const kms = kmsApi(await resolveSettings({ ...options }, context), context);
  if (options.out === undefined) {
    for await (const line of linesOf(kms)) context.stdout.write(`${line}\n`);
    return;
  }
  const path = resolve(context.cwd, options.out);
  const file = await open(path, 'wx').catch((cause: unknown) => {
    throw new CfnError('CFN_USAGE', `--out: cannot make ${path}`, { cause });
  });
  let lines = 0;
  try {
    for await (const line of linesOf(kms)) {
      await file.write(`${line}\n`);
      lines++;
    }
    await file.sync();
  } finally {
    await file.close();
  }
  cli.output.result({ file: path, lines }, [`wrote ${lines} lines to ${path}`]);
}

async function verifyAction(file: string | undefined, options: VerifyOptions, cli: Cli): Promise<void> {
  const { context } = cli;
  const settings = await resolveSettings({ ...options }, context);
  const since = options.since === undefined ? undefined : await readCheckpoint(resolve(context.cwd, options.since));
  if (file !== undefined && options.auditKey === undefined && settings.kms === undefined)
    throw new CfnError('CFN_USAGE', 'missing: whose signature to expect; give --audit-key or --kms');
  const auditKey =
    options.auditKey ?? (await kmsApi(settings, context).json('GET', '/v1/info', kmsInfoSchema)).auditKey;
  const lines = file === undefined ? linesOf(kmsApi(settings, context)) : linesIn(resolve(context.cwd, file));
  const verified = await verifyAudit(lines, auditKey, since);
  const { namespace, entries, checkpoint } = verified;
  cli.output.result({ ...verified, auditKey, sinceKept: since !== undefined }, [
    `whole: ${entries} entries of ${namespace === '' ? 'the KMS itself' : namespace}`,
    ...(options.auditKey === undefined
      ? [`audit key ${auditKey}, as the KMS says; note it, and give it with --audit-key`]
      : []),
    ...(since === undefined
      ? ['compared with no earlier checkpoint; keep this one, and give it with --since:']
      : ['checkpoint:']),
    checkpoint,
  ]);
}

/** Not zod's copy: its members are in another order than what was hashed. */
const pageAsSent = z.custom<AuditPage>((value) => auditPageSchema.safeParse(value).success);

/** The log as it is exported. An entry that comes while this runs is left for the next time, or is there with its checkpoint. */
async function* linesOf(kms: Api): AsyncGenerator<string> {
  let after = 0;
  let head: string | undefined;
  const written = new Set<string>();
  for (;;) {
    const page = await kms.json('GET', `/v1/audit?after=${after}`, pageAsSent);
    for (const line of page.lines) yield JSON.stringify(line);
    for (const checkpoint of page.checkpoints) {
      written.add(checkpoint);
      yield JSON.stringify({ checkpoint });
    }
    head = page.head;
    const last = page.lines.at(-1);
    if (last === undefined) break;
    after = last.seq;
  }
  if (head !== undefined && !written.has(head)) yield JSON.stringify({ checkpoint: head });
}

function linesIn(path: string): AsyncIterable<string> {
  const input = createReadStream(path);
  const lines = createInterface({ input, crlfDelay: Infinity });
  return {
    async *[Symbol.asyncIterator]() {
      try {
        await new Promise((done, failed) => input.once('open', done).once('error', failed));
      } catch (cause) {
        throw new CfnError('CFN_USAGE', `cannot read ${path}`, { cause });
      }
      yield* lines;
    },
  };
}

async function readCheckpoint(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (cause) {
    throw new CfnError('CFN_USAGE', `--since: cannot read ${path}`, { cause });
  }
}
