import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { registerServe } from '../serve.ts';

export function register(program: Command, cli: Cli): void {
  registerServe(program, cli, {
    name: 'kms',
    summary: 'Serve a key management service: it releases model keys to workers that it appraises',
    entry: 'kms/main.ts',
    flags: '--state DIR --listen HOST:PORT --policy FILE',
  });
}
