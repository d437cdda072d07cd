import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { runService } from '../serve.ts';

const ROOT_KEY = '[--root-key URI] [--root-key-credential FILE]';

/** `cfn kms backup` and `restore`, which run in the KMS's own program: `cfn` cannot import what a service holds. */
export function registerBackup(kms: Command, cli: Cli): void {
  const add = (name: 'backup' | 'restore', description: string, usage: string): void =>
    void kms
      .command(name)
      .description(description)
      .usage(usage)
      .argument('[flags...]')
      .allowUnknownOption()
      .action(async (flags: readonly string[]) => {
        cli.exitCode = await runService('kms/main.ts', [name, ...flags.filter((flag) => flag !== '--json')], cli);
      });
  add('backup', 'Copy the keyring of a KMS to a file, while it runs; keys in it stay wrapped', '--state DIR --to FILE');
  add(
    'restore',
    'Make a keyring from a backup; the root key must be there, and all leases end',
    `--state DIR --from FILE ${ROOT_KEY}`,
  );
}
