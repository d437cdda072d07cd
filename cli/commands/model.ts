import { lstat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { CfnError, grantSchema, KEY_LEASE_MS, parseKbsUrl, parseDuration } from '../../proto/index.ts';
import { openAuthorKey } from '../author-key.ts';
import type { Cli } from '../context.ts';
import { parseFunctionName } from '../function-name.ts';
import { fileKeeper, type KeyKeeper } from '../key-keeper.ts';
import { registerGrants } from '../kms/grants.ts';
import { readTerms, termOptions, type TermOptions } from '../kms/terms.ts';
import { grantModel, packageFiles, pushModel } from '../push-model.ts';
import { resolveSettings, settingOptions, type Settings } from '../settings.ts';

export function register(program: Command, cli: Cli): void {
  const model = program.command('model').description('Push models encrypted, and grant their use');
  const push = model
    .command('push')
    .description('Encrypt a model on this machine, store the ciphertext, and give the key to the KMS')
    .argument('<file>', 'ONNX model')
    .requiredOption('--name <owner/name@version>', 'what functions bind')
    .option('--file <path...>', "the model's external data files, under their own names")
    .option(
      '--kbs <url>',
      'the key is kept by a key broker (KBS) instead, as this resource: kbs+https://HOST/REPOSITORY/TYPE/TAG',
    )
    .option('--key-out <file>', 'with --kbs: a new file for the key, mode 0600, which you put into the broker yourself')
    .option('--start-over', 'forget a push of this model that broke off, instead of going on with it')
    .action((file: string, options: PushOptions) => pushAction(file, options, cli));
  settingOptions(push, 'gateway', 'token', 'kms', 'kmsToken');
  const grant = model
    .command('grant')
    .description('Let a function use a model: the KMS then gives its key to attested workers that run it')
    .argument('<owner/name@version>', 'the model')
    .requiredOption('--to <tenant/function>', 'who may use it')
    .option('--author <thumbprint>', 'only versions that this author signed; `self`: your own author key')
    .option('--version-digest <digest>', 'only this function version')
    .option('--any-author', "whatever goes by that name: the operator's word is taken for whose function it is")
    .option(
      '--lease <duration>',
      'how long a worker holds the key without attesting again',
      `${KEY_LEASE_MS / 60_000}m`,
    )
    .option('--max-invocations <n>', 'how often the function may be called with it, all in all')
    .action((name: string, options: GrantOptions) => grantAction(name, options, cli));
  termOptions(grant);
  settingOptions(grant, 'gateway', 'token', 'kms', 'kmsToken');
  registerGrants(model, cli);
}

interface PushOptions {
  readonly name: string;
  readonly file?: readonly string[];
  readonly kbs?: string;
  readonly keyOut?: string;
  readonly startOver?: boolean;
}

async function pushAction(file: string, options: PushOptions, cli: Cli): Promise<void> {
  const settings = await resolveSettings({ ...options }, cli.context);
  const sources = [file, ...(options.file ?? [])].map((path) => resolve(cli.context.cwd, path));
  const pushed = await pushModel(
    {
      model: options.name,
      files: packageFiles(sources, (path) => basename(path)),
      keeper: await keeperOf(options, settings, cli),
      startOver: options.startOver === true,
    },
    settings,
    cli,
  );
  cli.output.result(pushed, [
    `pushed ${pushed.model}, ${pushed.bytes} bytes`,
    `digest ${pushed.digest}`,
    `key    at ${pushed.kms}`,
    options.kbs !== undefined
      ? `next   put ${options.keyOut} into the broker, and remove the file`
      : `next   cfn model grant ${pushed.model} --to TENANT/FUNCTION --author THUMBPRINT`,
  ]);
}

/** Who is to have the key. */
async function keeperOf(
  { kbs, keyOut }: PushOptions,
  settings: Settings,
  { context }: Cli,
): Promise<KeyKeeper | undefined> {
  if (kbs === undefined && keyOut === undefined) return undefined;
  if (kbs === undefined || keyOut === undefined)
    throw new CfnError(
      'CFN_USAGE',
      '--kbs and --key-out belong together: the one says where the key will be, the other where it is now',
    );
  parseKbsUrl(kbs);
  const keyFile = resolve(context.cwd, keyOut);
  // Before the model is encrypted, which can take long.
  if ((await lstat(keyFile).catch(() => undefined)) !== undefined)
    throw new CfnError('CFN_USAGE', `--key-out: ${keyFile} is there already`);
  return fileKeeper(kbs, keyFile, settings);
}

interface GrantOptions extends TermOptions {
  readonly to: string;
  readonly author?: string;
  readonly versionDigest?: string;
  readonly anyAuthor?: boolean;
  readonly lease: string;
  readonly maxInvocations?: string;
}

async function grantAction(model: string, options: GrantOptions, cli: Cli): Promise<void> {
  const settings = await resolveSettings({ ...options }, cli.context);
  const { tenant, name } = parseFunctionName(options.to);
  if (options.author === undefined && options.versionDigest === undefined && options.anyAuthor !== true) {
    throw new CfnError(
      'CFN_USAGE',
      'a name alone says nothing of whose code it is: give --author, --version-digest, or --any-author',
    );
  }
  const author = options.author === 'self' ? (await openAuthorKey(cli.context)).thumbprint : options.author;
  const grant = grantSchema.safeParse({
    tenant,
    function: name,
    ...(author === undefined ? {} : { author }),
    ...(options.versionDigest === undefined ? {} : { version: options.versionDigest }),
    ...(await readTerms(options, cli)),
    leaseMs: parseDuration(options.lease),
    ...(options.maxInvocations === undefined ? {} : { maxInvocations: Number(options.maxInvocations) }),
  });
  if (!grant.success) {
    const [issue] = grant.error.issues;
    throw new CfnError('CFN_USAGE', `${issue?.path.join('.') ?? 'grant'}: ${issue?.message ?? 'invalid'}`);
  }
  const result = await grantModel(model, grant.data, settings, cli);
  cli.output.result(result, [
    `granted ${model} to ${options.to} until ${grant.data.until}, lease ${grant.data.leaseMs / 1000} s${
      grant.data.maxInvocations === undefined ? '' : `, at most ${grant.data.maxInvocations} invocations`
    }`,
  ]);
}
