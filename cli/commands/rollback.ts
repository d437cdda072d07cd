import type { Command } from 'commander';
import { z } from 'zod';
import { digestSchema } from '../../proto/index.ts';
import type { Cli } from '../context.ts';
import { deployedLines, deployedSchema } from '../deployments.ts';
import { functionTarget, targetOptions } from '../function-target.ts';
import { fullVersion } from '../version-specs.ts';

export function register(program: Command, cli: Cli): void {
  targetOptions(
    program
      .command('rollback')
      .description('Give all requests to an earlier version: the next one goes there')
      .argument('[version]', 'by default what was deployed alone before the current deployment')
      .option('--message <text>', 'kept with the deployment')
      .action((version: string | undefined, options: Options) => rollback(version, options, cli)),
  );
}

interface Options {
  readonly name?: string;
  readonly message?: string;
}

const versionsSchema = z.object({ versions: z.array(z.object({ version: digestSchema })) });

async function rollback(start: string | undefined, options: Options, cli: Cli): Promise<void> {
  const { api, path, tenant, name } = await functionTarget(options, cli);
  const known = start === undefined ? [] : (await api.json('GET', `${path}/versions`, versionsSchema)).versions;
  const version =
    start &&
    fullVersion(
      start,
      known.map((it) => it.version),
    );
  const made = await api.json('POST', `${path}/rollback`, deployedSchema, {
    ...(version === undefined ? {} : { version }),
    message: options.message ?? '',
  });
  cli.output.result(made, [`rolled back ${tenant}/${name}`, ...deployedLines(made)]);
}
