import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { registerServe } from '../serve.ts';

export function register(program: Command, cli: Cli): void {
  registerServe(program, cli, {
    name: 'relay',
    summary: "Serve an OHTTP relay: it keeps callers' addresses from the gateway, and sees sealed bytes only",
    entry: 'relay/main.ts',
    flags: '--to ORIGIN... [--listen HOST:PORT]',
  });
}
