import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { registerServe } from '../serve.ts';

export function register(program: Command, cli: Cli): void {
  registerServe(program, cli, {
    name: 'gateway',
    summary: 'Serve the gateway: outside the trust boundary, it relays sealed requests to admitted workers',
    entry: 'gateway/main.ts',
    flags: '--state DIR --listen HOST:PORT --admin HOST:PORT --policy FILE [--worker HOST:PORT]...',
  });
}
