import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { deployProject, loadFailure, type Deployment } from '../deploy-project.ts';
import { resolveSettings, settingOptions } from '../settings.ts';

export function register(program: Command, cli: Cli): void {
  const command = program
    .command('deploy')
    .description('Bundle, sign and deploy a function project')
    .argument('[dir]', 'project folder', '.')
    .action((dir: string, options: Record<string, unknown>) => deploy(dir, options, cli));
  settingOptions(command, 'gateway', 'token', 'tenant', 'kms');
}

async function deploy(dir: string, options: Record<string, unknown>, cli: Cli): Promise<void> {
  const settings = await resolveSettings(options, cli.context);
  const deployment = await deployProject(resolve(cli.context.cwd, dir), settings, cli);
  cli.output.result(deployment, deploymentLines(deployment));
  const failure = loadFailure(deployment);
  if (failure !== undefined) throw failure;
}

export function deploymentLines({ tenant, name, version, url, workers }: Deployment): string[] {
  return [
    `deployed ${tenant}/${name}`,
    `version  ${version}`,
    `url      ${url}`,
    ...(workers.length === 0 ? ['no worker is admitted; the first one will load it'] : []),
    ...workers.map((worker) =>
      worker.loaded
        ? `worker   ${worker.workerId.slice(0, 16)}… loaded`
        : `worker   ${worker.workerId.slice(0, 16)}… ${worker.code}: ${worker.message}`,
    ),
  ];
}
