import type { Command } from 'commander';
import { appraiseDocument, fetchAttestation } from '../../client/index.ts';
import type { Cli } from '../context.ts';
import { parseFunctionName } from '../function-name.ts';
import { policyDigest, readPolicy } from '../policy.ts';
import { need, resolveSettings, settingOptions } from '../settings.ts';
import { trustJson, trustLines } from '../trust-report.ts';

export function register(program: Command, cli: Cli): void {
  const command = program
    .command('verify')
    .description('Verify the evidence of the workers of a function, under your own policy, and print every check')
    .argument('<tenant/function>', 'the function')
    .option('--recorded', 'take the evidence of the last admission, not one made now for a nonce of ours')
    .action((name: string, options: VerifyOptions) => verify(name, options, cli));
  settingOptions(command, 'gateway', 'policy');
}

interface VerifyOptions {
  readonly recorded?: boolean;
}

async function verify(name: string, options: VerifyOptions, { context, output }: Cli): Promise<void> {
  parseFunctionName(name);
  const settings = await resolveSettings({ ...options }, context);
  const endpoint = need(settings, 'gateway');
  const policy = await readPolicy(need(settings, 'policy'));
  const nonce = options.recorded === true ? undefined : context.randomBytes(32);

  const step = output.step(
    nonce === undefined ? 'fetching recorded evidence' : 'asking for evidence made for a fresh nonce',
  );
  const document = await fetchAttestation({ endpoint, function: name, nonce, fetch: context.fetch });
  step.done();
  const { workers, refused, manifest, models } = await appraiseDocument(document, {
    policy,
    now: context.now(),
    nonce,
  });
  const digest = await policyDigest(policy);

  const value = {
    function: name,
    version: manifest.version,
    author: manifest.author,
    models: models.map(({ model, digest: package_ }) => ({ model, digest: package_ })),
    policy: digest,
    gatewayPolicy: document.policy,
    fresh: nonce !== undefined,
    simulated: workers.some(({ simulated }) => simulated),
    workers: workers.map(trustJson),
    refused: refused.map(({ workerId, error }) => ({ workerId, code: error.code, message: error.message })),
  };
  output.result(value, [
    `function ${name}, version ${manifest.version}`,
    `signed by author ${manifest.author}`,
    ...models.map(({ model, digest: package_ }) => `model ${model}, package ${package_}`),
    `policy ${digest}${digest === document.policy.digest ? ", the gateway's own" : `; the gateway appraises under ${document.policy.digest}`}`,
    nonce === undefined
      ? 'evidence: recorded at the last admission; that it is fresh is not proven by this'
      : 'evidence: made just now, for a nonce of ours',
    ...workers.flatMap(trustLines),
    ...refused.map(({ workerId, error }) => `worker ${workerId} REFUSED: ${error.code}: ${error.message}`),
  ]);
}
