import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { registerServe } from '../serve.ts';

export function register(program: Command, cli: Cli): void {
  registerServe(program, cli, {
    name: 'worker',
    summary: 'Serve a worker, inside a TDX or SEV-SNP VM; `cfn dev` has a SIMULATED one',
    entry: 'runtime/main.ts',
    flags:
      '--listen HOST:PORT --gateway-certificate FILE --blobs URL --blobs-token-file FILE --gpu required|none [--capacity N] [--idle 10m] [--memory-mb N] [--endorsements FILE] [--pccs URL] [--kds URL] [--rim URL] [--ocsp URL]',
  });
}
