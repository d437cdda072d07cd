import { readFile } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { CfnError, grantSchema, KEY_LEASE_MS, referenceSchema, type Reference } from '../../proto/index.ts';
import { openAuthorKey } from '../author-key.ts';
import type { Cli } from '../context.ts';
import { parseDuration } from '../duration.ts';
import { parseFunctionName } from '../function-name.ts';
import { registerGrants } from '../kms/grants.ts';
import { grantModel, packageFiles, pushModel } from '../push-model.ts';
import { resolveSettings, settingOptions } from '../settings.ts';

const GRANT_DAYS = 30;

export function register(program: Command, cli: Cli): void {
  const model = program.command('model').description('Push models encrypted, and grant their use');
  const push = model
    .command('push')
    .description('Encrypt a model on this machine, store the ciphertext, and give the key to the KMS')
    .argument('<file>', 'ONNX model')
    .requiredOption('--name <owner/name@version>', 'what functions bind')
    .option('--file <path...>', "the model's external data files, under their own names")
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
    .option('--tee <kind...>', 'TEE kinds of the worker: tdx, snp')
    .option(
      '--gpu <name...>',
      'GPUs of the worker, each: hopper (h100, h200) or blackwell (b100, b200); evidence tells no more apart',
    )
    .option(
      '--reference <file>',
      'measurements of the images that you take, JSON: lists by mrtd, rtmr0 to rtmr3, measurement',
    )
    .option('--until <time>', `end of the grant, RFC 3339 (default: in ${GRANT_DAYS} days)`)
    .option(
      '--lease <duration>',
      'how long a worker holds the key without attesting again',
      `${KEY_LEASE_MS / 60_000}m`,
    )
    .option('--max-invocations <n>', 'how often the function may be called with it, all in all')
    .action((name: string, options: GrantOptions) => grantAction(name, options, cli));
  settingOptions(grant, 'gateway', 'token', 'kms', 'kmsToken');
  registerGrants(model, cli);
}

interface PushOptions {
  readonly name: string;
  readonly file?: readonly string[];
}

async function pushAction(file: string, options: PushOptions, cli: Cli): Promise<void> {
  const settings = await resolveSettings({ ...options }, cli.context);
  const sources = [file, ...(options.file ?? [])].map((path) => resolve(cli.context.cwd, path));
  const pushed = await pushModel(
    { model: options.name, files: packageFiles(sources, (path) => basename(path)) },
    settings,
    cli,
  );
  cli.output.result(pushed, [
    `pushed ${pushed.model}, ${pushed.bytes} bytes`,
    `digest ${pushed.digest}`,
    `key    at ${pushed.kms}`,
    `next   cfn model grant ${pushed.model} --to TENANT/FUNCTION --author THUMBPRINT`,
  ]);
}

interface GrantOptions {
  readonly to: string;
  readonly author?: string;
  readonly versionDigest?: string;
  readonly anyAuthor?: boolean;
  readonly tee?: readonly string[];
  readonly gpu?: readonly string[];
  readonly reference?: string;
  readonly until?: string;
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
    ...(options.tee === undefined ? {} : { tee: options.tee }),
    ...(options.gpu === undefined ? {} : { gpu: options.gpu.map(architectureOf) }),
    ...(options.reference === undefined ? {} : { reference: await readReference(options.reference, cli) }),
    leaseMs: parseDuration(options.lease),
    until: untilOf(options.until, cli.context.now()),
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

const ARCHITECTURES: Readonly<Record<string, string>> = {
  hopper: 'HOPPER',
  h100: 'HOPPER',
  h200: 'HOPPER',
  blackwell: 'BLACKWELL',
  b100: 'BLACKWELL',
  b200: 'BLACKWELL',
};
function architectureOf(name: string): string {
  const architecture = ARCHITECTURES[name.toLowerCase()];
  if (architecture === undefined) throw new CfnError('CFN_USAGE', `--gpu: expected hopper or blackwell, have ${name}`);
  return architecture;
}

async function readReference(file: string, { context }: Cli): Promise<Reference> {
  try {
    return referenceSchema.parse(JSON.parse(await readFile(resolve(context.cwd, file), 'utf8')));
  } catch (cause) {
    throw new CfnError('CFN_USAGE', `--reference: ${file} holds no reference values`, { cause });
  }
}

function untilOf(until: string | undefined, now: Date): string {
  if (until === undefined) return new Date(now.getTime() + GRANT_DAYS * 86_400_000).toISOString();
  const time = new Date(until);
  if (Number.isNaN(time.getTime()))
    throw new CfnError('CFN_USAGE', `--until: expected a time such as 2027-01-31T00:00:00Z, have ${until}`);
  if (time.getTime() <= now.getTime()) throw new CfnError('CFN_USAGE', `--until: ${time.toISOString()} is past`);
  return time.toISOString();
}
