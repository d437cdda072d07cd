import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, watch, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative, resolve } from 'node:path';
import type { Command } from 'commander';
import { CONFIG_FILE, readFunctionConfig, type FunctionConfig } from '../../artifacts/index.ts';
import { startLocal } from '../../deploy/local.ts';
import { CfnError, KEY_LEASE_MS, toCfnError } from '../../proto/index.ts';
import type { Cli } from '../context.ts';
import { kmsApi } from '../api.ts';
import { deployProject, loadFailure, type Deployment } from '../deploy-project.ts';
import { putSecrets } from '../function-secrets.ts';
import { readDevVars } from '../secret-values.ts';
import { openAuthorKey } from '../author-key.ts';
import { gatewayApi, grantModel, listedDigest, packageFiles, pushModel } from '../push-model.ts';
import { tenantOf, type Settings } from '../settings.ts';
import { deploymentLines } from './deploy.ts';

/** Editors write a file in several steps; one deployment is enough. */
const SETTLE_MS = 100;
const GRANT_MS = 365 * 86_400_000;

export function register(program: Command, cli: Cli): void {
  program
    .command('dev')
    .description(
      'Run KMS, gateway and one SIMULATED worker on this machine, with the project deployed; deploys again on each change',
    )
    .argument('[dir]', 'project folder', '.')
    .option('--port <port>', 'port of the gateway', '8787')
    .option('--state <dir>', 'keep keys, models and deployments here (default: a temporary folder)')
    .action((dir: string, options: DevOptions) => dev(resolve(cli.context.cwd, dir), options, cli));
}

interface DevOptions {
  readonly port: string;
  readonly state?: string;
}

async function dev(projectDir: string, { port, state }: DevOptions, cli: Cli): Promise<void> {
  const { context, output } = cli;
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535)
    throw new CfnError('CFN_USAGE', `--port: expected 0 to 65535, have ${port}`);
  const project = await readFunctionConfig(projectDir); // refused before anything is started
  output.note('SIMULATED: this machine has no TEE. Whoever runs it can read everything; it is for development only.');

  const stateDir = state === undefined ? await mkdtemp(join(tmpdir(), 'cfn-dev-')) : resolve(context.cwd, state);
  const local = await startLocal({
    stateDir,
    port: Number(port),
    onProgress: (step) => output.note(`${step} …`),
  }).catch(async (error: unknown) => {
    if (state === undefined) await rm(stateDir, { recursive: true, force: true });
    throw error;
  });
  output.note(`sandbox: ${local.worker().ready.jail}`);
  const settings: Settings = { ...local.config };
  let leave = async (): Promise<void> => undefined;
  try {
    leave = await offerSettings(projectDir, settings);
    await pushModels(projectDir, project, settings, cli);
    await pushSecrets(projectDir, project, settings, cli);
    const deployment = await deployProject(projectDir, settings, cli, { secretsAt: () => ({}) });
    const failure = loadFailure(deployment);
    if (failure !== undefined) throw failure;
    announce(deployment, project, settings, cli);
    if (!context.ended.aborted) await deployOnChange(projectDir, project, settings, cli);
  } finally {
    const stopping = output.step('stopping');
    await local.stop();
    await leave();
    if (state === undefined) await rm(stateDir, { recursive: true, force: true });
    stopping.done();
  }
}

/** Pushes the models that `[dev.models]` has files for and grants their use. Those of others must be in the catalogue already. */
async function pushModels(
  projectDir: string,
  { name, models, dev: { models: files } }: FunctionConfig,
  settings: Settings,
  cli: Cli,
): Promise<void> {
  for (const model of new Set(models.map((entry) => entry.model))) {
    const sources = files[model]?.map((path) => resolve(projectDir, path));
    if (sources === undefined) continue;
    if ((await listedDigest(gatewayApi(settings, cli), model)) === undefined) {
      const files = packageFiles(sources, (path) => basename(path));
      await pushModel({ model, files, startOver: true }, settings, cli);
    }
    const { thumbprint: author } = await openAuthorKey(cli.context);
    const until = new Date(cli.context.now().getTime() + GRANT_MS).toISOString();
    await grantModel(
      model,
      { tenant: settings.tenant ?? '', function: name, author, leaseMs: KEY_LEASE_MS, until },
      settings,
      cli,
    );
  }
}

/** Puts what `.dev.vars` has of the secrets that the function requires. */
async function pushSecrets(
  projectDir: string,
  { name, secrets }: FunctionConfig,
  settings: Settings,
  cli: Cli,
): Promise<void> {
  const given = await readDevVars(projectDir);
  const found = secrets.required.flatMap((name) => (given[name] === undefined ? [] : [[name, given[name]] as const]));
  const unused = Object.keys(given).filter((name) => !secrets.required.includes(name));
  if (unused.length > 0)
    cli.output.note(`.dev.vars: not in [secrets] required, and so not in env: ${unused.join(', ')}`);
  if (found.length === 0) return;
  const { thumbprint: author } = await openAuthorKey(cli.context);
  const tenant = tenantOf(settings);
  const place = { tenant, name, owner: tenant, kms: kmsApi(settings, cli.context) }; // not the KMS that the project names
  await putSecrets(place, Object.fromEntries(found), { author });
}

function announce(
  deployment: Deployment,
  { caller }: FunctionConfig,
  settings: Settings,
  { context, output }: Cli,
): void {
  const { tenant, name, url, version } = deployment;
  output.result(
    {
      ready: true,
      simulated: true,
      gateway: settings.gateway,
      kms: settings.kms,
      policy: settings.policy,
      tenant,
      name,
      version,
      url,
    },
    [
      ...deploymentLines(deployment),
      '',
      caller.plaintext ? `curl ${url}` : 'this function takes sealed requests only',
      `cfn invoke ${tenant}/${name}${context.env['CFN_GATEWAY'] === undefined ? '' : ` --gateway ${settings.gateway ?? ''}`}   (in the project's folder)`,
      '',
      'stays up until Ctrl-C; deploys again when a source file changes',
    ],
  );
}

/** Deploys again when a source changes. A mistake in the source is said and waited out. */
async function deployOnChange(
  projectDir: string,
  { main }: FunctionConfig,
  settings: Settings,
  cli: Cli,
): Promise<void> {
  const { context, output } = cli;
  const sources =
    dirname(main) === '.' ? [] : [watch(join(projectDir, dirname(main)), { recursive: true, signal: context.ended })];
  const here = watch(projectDir, { signal: context.ended });
  let due: NodeJS.Timeout | undefined;
  let running = Promise.resolve();
  const deploy = async (): Promise<void> => {
    try {
      const project = await readFunctionConfig(projectDir);
      await pushModels(projectDir, project, settings, cli);
      await pushSecrets(projectDir, project, settings, cli);
      const deployment = await deployProject(projectDir, settings, cli, { secretsAt: () => ({}) });
      for (const line of deploymentLines(deployment)) output.note(line);
    } catch (error) {
      // With --json stdout and stderr hold one document each, said at the start and at the end.
      if (!context.ended.aborted && !output.json) output.error(toCfnError(error));
    }
  };
  const follow = async (
    events: AsyncIterable<{ filename: string | null }>,
    isSource: (name: string) => boolean,
  ): Promise<void> => {
    try {
      for await (const { filename } of events) {
        if (!isSource(filename ?? '')) continue;
        clearTimeout(due);
        due = setTimeout(() => {
          running = running.then(deploy);
        }, SETTLE_MS);
      }
    } catch (error) {
      if (!context.ended.aborted) throw error;
    }
  };
  const top = (name: string): boolean =>
    name === CONFIG_FILE || name === '.dev.vars' || (sources.length === 0 && name === relative('.', main));
  await Promise.all([follow(here, top), ...sources.map((events) => follow(events, () => true))]);
  clearTimeout(due);
  await running;
}

/**
 * Lets `cfn invoke` and the others find this system from the project's folder. Settings that are there already are the
 * user's own and stay.
 *
 * @returns takes them away again
 */
async function offerSettings(projectDir: string, settings: Settings): Promise<() => Promise<void>> {
  const file = join(projectDir, '.cfn', 'config.json');
  if (existsSync(file)) return async () => undefined;
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  await writeFile(file, JSON.stringify(settings, null, 2), { mode: 0o600 });
  return () => rm(file, { force: true });
}
