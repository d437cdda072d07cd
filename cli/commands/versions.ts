import { resolve } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import { digestSchema } from '../../proto/index.ts';
import type { Cli } from '../context.ts';
import { deployedLines, deployedSchema, deploymentSchema } from '../deployments.ts';
import { deployProject } from '../deploy-project.ts';
import { functionTarget, targetOptions, type FunctionTarget } from '../function-target.ts';
import { resolveSettings, settingOptions } from '../settings.ts';
import { fullVersion, parseVersionSpecs } from '../version-specs.ts';

/** The names and flags are wrangler's, where they mean the same. */
export function register(program: Command, cli: Cli): void {
  const versions = program
    .command('versions')
    .description('Upload versions of a function, and split requests between them');
  settingOptions(
    versions
      .command('upload')
      .description('Bundle, sign and upload a version that gets no requests yet')
      .argument('[dir]', 'project folder', '.')
      .action((dir: string, options: object) => upload(dir, options, cli)),
    'gateway',
    'token',
    'tenant',
    'kms',
  );
  targetOptions(
    versions
      .command('list')
      .description('List versions with the percentage of requests that each gets, and why a roll-out stopped')
      .action((options: Options) => list(options, cli)),
  );
  targetOptions(
    versions
      .command('view <version>')
      .description('What a version is: its signed manifest')
      .action((version: string, options: Options) => view(version, options, cli)),
  );
  targetOptions(
    versions
      .command('deploy <versions...>')
      .description('Split requests: VERSION@PERCENT, one or two; what has no percentage shares what is left')
      .option('--message <text>', 'kept with the deployment')
      .action((specs: string[], options: Options) => deploy(specs, options, cli)),
  );
}

interface Options {
  readonly name?: string;
  readonly message?: string;
}

async function upload(dir: string, options: object, cli: Cli): Promise<void> {
  const settings = await resolveSettings({ ...options }, cli.context);
  const { tenant, name, version } = await deployProject(resolve(cli.context.cwd, dir), settings, cli, {
    deploy: false,
  });
  const next = `cfn versions deploy ${version.slice(0, 12)}@10 …`;
  cli.output.result({ tenant, name, version }, [
    `uploaded ${tenant}/${name}`,
    `version  ${version}`,
    `next     ${next}`,
  ]);
}

const listSchema = z.object({
  versions: z.array(
    z.object({
      version: digestSchema,
      uploadedAt: z.string(),
      percent: z.number().nullable(),
      attestedShare: z.number(),
    }),
  ),
  deployment: deploymentSchema,
});

const listOf = ({ api, path }: FunctionTarget): Promise<z.infer<typeof listSchema>> =>
  api.json('GET', `${path}/versions`, listSchema);
async function knownVersions(target: FunctionTarget): Promise<string[]> {
  return (await listOf(target)).versions.map(({ version }) => version);
}

async function list(options: Options, cli: Cli): Promise<void> {
  const target = await functionTarget(options, cli);
  const listed = await listOf(target);
  const { deployment } = listed;
  const lines = listed.versions.map(({ version, uploadedAt, percent, attestedShare }) => {
    const part = percent === null ? '    -' : `${String(percent).padStart(3)} %`;
    const share = attestedShare < 1 ? `  on ${Math.round(attestedShare * 100)} % of the workers asked` : '';
    return `${part}  ${version}  ${uploadedAt}${share}`;
  });
  const said = deployment.message === '' ? '' : `: ${deployment.message}`;
  cli.output.result({ tenant: target.tenant, name: target.name, ...listed }, [
    ...lines,
    `deployment ${deployment.id} (${deployment.cause}) of ${deployment.at}${said}`,
  ]);
}

const viewSchema = z.looseObject({
  version: digestSchema,
  percent: z.number().nullable(),
  manifest: z.looseObject({ compatibilityDate: z.string() }),
});

async function view(start: string, options: Options, cli: Cli): Promise<void> {
  const target = await functionTarget(options, cli);
  const version = fullVersion(start, await knownVersions(target));
  const shown = await target.api.json('GET', `${target.path}/versions/${version}`, viewSchema);
  cli.output.result(shown, [
    `${target.tenant}/${target.name} ${version}`,
    shown.percent === null ? 'not deployed' : `deployed at ${shown.percent} %`,
    ...JSON.stringify(shown.manifest, null, 2).split('\n'),
  ]);
}

async function deploy(specs: readonly string[], options: Options, cli: Cli): Promise<void> {
  const target = await functionTarget(options, cli);
  const versions = parseVersionSpecs(specs, await knownVersions(target));
  const message = options.message ?? '';
  const made = await target.api.json('POST', `${target.path}/deployments`, deployedSchema, { versions, message });
  cli.output.result(made, [`deployed ${target.tenant}/${target.name}`, ...deployedLines(made)]);
}
