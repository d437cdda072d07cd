import type { Command } from 'commander';
import { openJail } from '../../runtime/jail/index.ts';
import type { Cli } from '../context.ts';

/** One thing that was looked at on this machine. */
interface Check {
  readonly name: string;
  readonly inForce: boolean;
  readonly detail: string;
  readonly remedy?: string;
}

/** What the doctor looks at, by area. Each tries it for real; nothing is taken from a version number or a setting. */
const AREAS: Readonly<Record<string, () => Promise<readonly Check[]>>> = {
  sandbox: async () => (await openJail()).layers,
};

/** The exit code where something is missing: it is the machine's fault, as an error of kind `system` is. */
const MISSING_EXIT_CODE = 3;

export function register(program: Command, cli: Cli): void {
  program
    .command('doctor')
    .description('Try what a worker needs of this machine: the layers around function code, each with a remedy')
    .action(() => doctor(cli));
}

async function doctor(cli: Cli): Promise<void> {
  const { output } = cli;
  const areas = await Promise.all(Object.entries(AREAS).map(async ([area, look]) => ({ area, checks: await look() })));
  const complete = areas.every(({ checks }) => checks.every(({ inForce }) => inForce));
  if (!complete) cli.exitCode = MISSING_EXIT_CODE;
  output.result({ complete, areas }, [
    ...areas.flatMap(({ area, checks }) => [area, ...checks.flatMap((check) => checkLines(check, cli))]),
    complete
      ? 'Nothing is missing.'
      : 'A worker with a real TEE does not start like this; `cfn dev` runs with what there is.',
  ]);
}

function checkLines({ name, inForce, detail, remedy }: Check, { output: { colors } }: Cli): string[] {
  const mark = inForce ? colors.green('in force') : colors.red('missing ');
  const line = `  ${mark}  ${name.padEnd(14)}  ${detail}`;
  return remedy === undefined ? [line] : [line, `            ${remedy}`];
}
