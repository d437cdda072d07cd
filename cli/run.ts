import { CommanderError } from 'commander';
import { CfnError, EXIT_CODES } from '../proto/index.ts';
import type { Cli, Context } from './context.ts';
import { createOutput, type Output } from './output.ts';
import { buildProgram } from './program.ts';

/**
 * Runs one command line and gives the exit code: 0 done, 1 a bug, 2 the call is wrong, 3 try again later, 4 trust refused.
 * Nothing is thrown.
 *
 * @param argv arguments after the program's name
 */
export async function run(argv: readonly string[], context: Context): Promise<number> {
  const end = argv.indexOf('--');
  const json = (end === -1 ? argv : argv.slice(0, end)).includes('--json');
  const output = createOutput(context, { json });
  const cli: Cli = { context, output, exitCode: 0 };
  try {
    const program = await buildProgram(argv, cli);
    await program.parseAsync([...argv], { from: 'user' });
    return cli.exitCode;
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return 0; // --help and --version
    return report(error, output, context);
  }
}

function report(error: unknown, output: Output, { env }: Context): number {
  if (error instanceof CommanderError) {
    const message =
      error.code === 'commander.help'
        ? 'expected a command'
        : error.message.replace(/^error: /, '').replaceAll('\n', ' ');
    output.error(new CfnError('CFN_USAGE', message));
    return EXIT_CODES.caller;
  }
  if (env['CFN_DEBUG'] === '1' && error instanceof Error) output.note(error.stack ?? '');
  if (error instanceof CfnError) {
    output.error(error);
    return EXIT_CODES[error.fault];
  }
  // Not one of ours: a bug. The message stays on the user's own terminal.
  output.error(new CfnError('CFN_INTERNAL', error instanceof Error ? error.message : String(error)));
  return 1;
}
