import { Command } from 'commander';
import type { Cli } from './context.ts';

/** What a file of `commands/` gives: it adds its command, or group of commands, to the program. */
interface CommandModule {
  register(program: Command, cli: Cli): void;
}

interface Entry {
  readonly summary: string;
  readonly load: () => Promise<CommandModule>;
}

/** Every verb. A module is loaded only when its verb is the one on the command line, so that `cfn --help` stays fast. */
const COMMANDS: Readonly<Record<string, Entry>> = {
  init: { summary: 'Make a function project from a template', load: () => import('./commands/init.ts') },
  dev: {
    summary: 'Run everything on this machine, SIMULATED, with the project deployed',
    load: () => import('./commands/dev.ts'),
  },
  deploy: { summary: 'Bundle, sign and deploy a function project', load: () => import('./commands/deploy.ts') },
  versions: {
    summary: 'Upload versions of a function, and split requests between them',
    load: () => import('./commands/versions.ts'),
  },
  rollback: {
    summary: 'Give all requests to an earlier version of a function',
    load: () => import('./commands/rollback.ts'),
  },
  invoke: { summary: 'Call a function, sealed to an attested worker', load: () => import('./commands/invoke.ts') },
  model: { summary: 'Push models encrypted, and grant their use', load: () => import('./commands/model.ts') },
  secret: { summary: 'Give a function secrets, through a KMS', load: () => import('./commands/secret.ts') },
  keys: { summary: 'List and rotate the keys of a KMS', load: () => import('./commands/keys.ts') },
  verify: { summary: 'Verify the evidence of the workers of a function', load: () => import('./commands/verify.ts') },
  receipt: { summary: 'Verify a receipt: where did my data go?', load: () => import('./commands/receipt.ts') },
  usage: {
    summary: 'What was used, summed over receipts; and count it again',
    load: () => import('./commands/usage.ts'),
  },
  attest: {
    summary: 'Verify evidence in files, or collect it on this machine',
    load: () => import('./commands/attest.ts'),
  },
  doctor: { summary: 'Try what a worker needs of this machine', load: () => import('./commands/doctor.ts') },
  conformance: {
    summary: 'Run recorded cases of evidence through the verifier',
    load: () => import('./commands/conformance.ts'),
  },
  gateway: { summary: 'Serve the gateway', load: () => import('./commands/gateway.ts') },
  token: { summary: 'API keys of the gateway: create, list, revoke', load: () => import('./commands/token.ts') },
  tenant: { summary: 'Tenants of a gateway, and what they may use', load: () => import('./commands/tenant.ts') },
  kms: { summary: 'Serve a key management service', load: () => import('./commands/kms.ts') },
  workers: { summary: 'See what workers do, and take them out', load: () => import('./commands/workers.ts') },
  relay: { summary: 'Serve a relay in front of gateways', load: () => import('./commands/relay.ts') },
  worker: { summary: 'Serve a worker, inside a TDX or SEV-SNP VM', load: () => import('./commands/worker.ts') },
};

const NOTES = `
Settings are taken from flags, then from the environment (CFN_GATEWAY, CFN_TOKEN, CFN_TENANT, CFN_KMS, CFN_KMS_TOKEN, CFN_POLICY),
then from .cfn/config.json in this folder or one above it. Authors sign with the key in CFN_AUTHOR_KEY, or ~/.config/cfn/author.jwk.

With --json, stdout is one JSON document and an error is one line of JSON on stderr (RFC 9457, with "code").
Exit codes: 0 done, 1 a bug, 2 the call is wrong, 3 try again later, 4 trust refused: nothing was sent or released.`;

export async function buildProgram(argv: readonly string[], cli: Cli): Promise<Command> {
  const { stdout } = cli.context;
  const program = new Command('cfn')
    .description('Serverless confidential inference: functions and models that nobody who runs the machines can read.')
    .version('0.1.0')
    .option('--json', 'machine-readable output')
    .showSuggestionAfterError()
    .exitOverride()
    .configureOutput({ writeOut: (text) => void stdout.write(text), writeErr: () => undefined })
    .addHelpText('after', NOTES);
  const words = argv.filter((argument) => !argument.startsWith('-'));
  const verb = words[0] === 'help' ? words[1] : words[0];
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    if (name === verb) (await load()).register(program, cli);
    else program.command(name).description(summary);
  }
  for (const command of allOf(program).slice(1)) {
    if (!command.options.some(({ long }) => long === '--json')) command.option('--json', 'machine-readable output');
  }
  return program;
}

function allOf(command: Command): Command[] {
  return [command, ...command.commands.flatMap(allOf)];
}
