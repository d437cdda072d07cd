import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { CfnError } from '../proto/index.ts';
import type { Cli } from './context.ts';

/**
 * Adds `NAME serve`, which runs a service's own program and hands all flags to it. A process of its own: `cfn` stays a
 * client, and cannot import what a service holds.
 *
 * @param entry of the service, relative to the root of the project
 * @param flags what the service takes, for the help text
 * @returns the group, for commands beside `serve`
 */
export function registerServe(
  program: Command,
  cli: Cli,
  service: { readonly name: string; readonly summary: string; readonly entry: string; readonly flags: string },
): Command {
  const group = program.command(service.name).description(service.summary);
  group
    .command('serve')
    .description(service.summary)
    .usage(service.flags)
    .argument('[flags...]')
    .allowUnknownOption()
    .addHelpText(
      'after',
      '\nOne line of JSON on stdout when it is ready; logs are JSON lines on stderr. SIGTERM stops it cleanly.',
    )
    .action(async (flags: readonly string[]) => {
      cli.exitCode = await runService(
        service.entry,
        flags.filter((flag) => flag !== '--json'),
        cli,
      );
    });
  return group;
}

/** Runs until the service ends; our signals become its. @returns its exit code */
export function runService(entry: string, flags: readonly string[], { context }: Cli): Promise<number> {
  const file = fileURLToPath(new URL(`../${entry}`, import.meta.url));
  const child = spawn(process.execPath, [file, ...flags], { stdio: 'inherit', env: { ...context.env } });
  const stop = (): void => void child.kill('SIGTERM');
  context.ended.addEventListener('abort', stop, { once: true });
  return new Promise((resolve, reject) => {
    child.on('error', (cause) => reject(new CfnError('CFN_INTERNAL', `cannot start ${entry}`, { cause })));
    child.on('close', (code, signal) => {
      context.ended.removeEventListener('abort', stop);
      resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
    });
  });
}
