import type { Command } from 'commander';
import type { Cli } from '../context.ts';
import { registerAudit } from '../kms/audit.ts';
import { registerBackup } from '../kms/backup.ts';
import { registerNamespaces } from '../kms/namespaces.ts';
import { registerResources } from '../kms/resources.ts';
import { registerServe } from '../serve.ts';

export function register(program: Command, cli: Cli): void {
  const kms = registerServe(program, cli, {
    name: 'kms',
    summary: 'Serve a key management service: it releases model keys to workers that it appraises',
    entry: 'kms/main.ts',
    flags:
      '--state DIR --listen HOST:PORT --policy FILE [--root-key file:PATH|pkcs11:URI|transit:URL] [--root-key-credential FILE] [--pccs URL] [--kds URL] [--rim URL] [--ocsp URL]',
  });
  registerNamespaces(kms, cli);
  registerAudit(kms, cli);
  registerBackup(kms, cli);
  registerResources(kms, cli);
}
