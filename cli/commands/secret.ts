import type { Command } from 'commander';
import { CfnError, digestSchema, secretListSchema, parseDuration } from '../../proto/index.ts';
import { openAuthorKey } from '../author-key.ts';
import type { Cli } from '../context.ts';
import {
  changedSchema,
  demandSecretName,
  putSecrets,
  secretPlace,
  secretsPath,
  type SecretPlace,
} from '../function-secrets.ts';
import { readSecretFile, readSecretValue } from '../secret-values.ts';
import { resolveSettings, settingOptions } from '../settings.ts';

interface Where {
  readonly to?: string;
  readonly project: string;
}
interface Terms {
  readonly author: string;
  readonly versionDigest?: string;
  readonly lease: string;
}

export function register(program: Command, cli: Cli): void {
  const secret = program.command('secret').description("Secrets of functions: sealed here, for the KMS's eyes only");
  const command = (usage: string, description: string): Command =>
    settingOptions(secret.command(usage).description(description), 'tenant', 'token', 'kms', 'kmsToken')
      .option('--to <tenant/function>', 'the function; by default the one of the project')
      .option('--project <dir>', 'project folder', '.');
  const withTerms = (made: Command): Command =>
    made
      .option('--author <thumbprint>', 'released to what this author signed; `self`: your own author key', 'self')
      .option('--version-digest <digest>', 'released to this function version only')
      .option('--lease <duration>', 'how long a worker has it without attesting again', '10m');
  const placeOf = async (options: Where): Promise<SecretPlace> =>
    secretPlace(options, await resolveSettings({ ...options }, cli.context), cli);

  withTerms(command('put <name>', 'Set a secret; the value comes from stdin, or is asked for')).action(
    async (name: string, options: Where & Terms) => {
      demandSecretName(name);
      const [place, terms] = [await placeOf(options), await termsOf(options, cli)];
      const value = await readSecretValue(name, cli.context);
      const { leasesRevoked } = await putSecrets(place, { [name]: value }, terms);
      cli.output.result({ put: [name], ...functionOf(place), leasesRevoked }, [
        `put ${name} of ${place.tenant}/${place.name}`,
        ...workersLine(leasesRevoked),
      ]);
    },
  );
  withTerms(command('bulk <file>', 'Set secrets from a file of JSON or NAME=value lines; - is stdin')).action(
    async (file: string, options: Where & Terms) => {
      const [place, terms] = [await placeOf(options), await termsOf(options, cli)];
      const values = await readSecretFile(file, cli.context);
      const { leasesRevoked } = await putSecrets(place, values, terms);
      const names = Object.keys(values);
      cli.output.result({ put: names, ...functionOf(place), leasesRevoked }, [
        `put ${names.join(', ')} of ${place.tenant}/${place.name}`,
        ...workersLine(leasesRevoked),
      ]);
    },
  );
  command('list', 'List the names').action(async (options: Where) => {
    const place = await placeOf(options);
    const { secrets } = await place.kms.json('GET', secretsPath(place), secretListSchema);
    cli.output.result(
      { ...functionOf(place), secrets },
      secrets.map(({ name, author, version, storedAt }) =>
        [
          name,
          `since ${storedAt}`,
          `for author ${author}`,
          ...(version === undefined ? [] : [`version ${version}`]),
        ].join(' '),
      ),
    );
  });
  command('delete <name>', 'Forget a secret: it is not released again').action(async (name: string, options: Where) => {
    demandSecretName(name);
    const place = await placeOf(options);
    const { leasesRevoked } = await place.kms.json('DELETE', `${secretsPath(place)}/${name}`, changedSchema);
    cli.output.result({ deleted: name, ...functionOf(place), leasesRevoked }, [
      `deleted ${name} of ${place.tenant}/${place.name}`,
      ...workersLine(leasesRevoked),
    ]);
  });
}

async function termsOf(
  { author, versionDigest, lease }: Terms,
  { context }: Cli,
): Promise<{ author: string; version?: string; leaseMs: number }> {
  if (versionDigest !== undefined && !digestSchema.safeParse(versionDigest).success)
    throw new CfnError('CFN_USAGE', '--version-digest: expected 64 hexadecimal digits');
  return {
    author: author === 'self' ? (await openAuthorKey(context)).thumbprint : author,
    ...(versionDigest !== undefined && { version: versionDigest }),
    leaseMs: parseDuration(lease),
  };
}

const functionOf = ({ tenant, name, owner }: SecretPlace): object => ({ tenant, name, owner });
const workersLine = (leases: number): string[] =>
  leases === 0 ? [] : [`${leases} workers had the secrets as they were; they ask anew within seconds`];
