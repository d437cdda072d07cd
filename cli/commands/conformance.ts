import type { Command } from 'commander';
import { EXIT_CODES } from '../../proto/index.ts';
import { readCases } from '../conformance/cases.ts';
import { runCase } from '../conformance/run.ts';
import type { Cli } from '../context.ts';
import { resolve } from 'node:path';

export function register(program: Command, cli: Cli): void {
  program
    .command('conformance')
    .description('Run the cases of a folder (its cases.json) and compare what the verifier says with what they expect')
    .argument('<dir>', 'a folder with a cases.json; docs/conformance.md describes it')
    .addHelpText('after', '\nExit codes: 0 every case is as expected, 4 one differs, 2 the folder has no cases.')
    .action((folder: string) => conformance(folder, cli));
}

async function conformance(folder: string, cli: Cli): Promise<void> {
  const directory = resolve(cli.context.cwd, folder);
  const cases = await readCases(directory);
  const results = [];
  for (const read of cases) {
    if ('subject' in read) results.push({ id: read.subject.id, ...(await runCase(directory, read.subject)) });
    else results.push({ id: read.id, differences: [read.problem] });
  }
  const differing = results.filter(({ differences }) => differences.length > 0);
  const failed = differing.length;
  cli.output.result({ passed: results.length - failed, failed, cases: results }, [
    ...differing.map(({ id, differences }) => `${id}: ${differences.join('; ')}`),
    `${results.length - failed} passed, ${failed} failed`,
  ]);
  if (failed > 0) cli.exitCode = EXIT_CODES.trust;
}
