import type { Command } from 'commander';
import { resolve } from 'node:path';
import { z } from 'zod';
import { CfnError, nameSchema, quotasSchema } from '../../proto/index.ts';
import { readPolicyFile } from '../../proto/node.ts';
import { kmsApi, type Api } from '../api.ts';
import type { Cli } from '../context.ts';
import { resolveSettings, settingOptions } from '../settings.ts';

/** Owners and their quotas, for the administrator; tokens and appraisal policy, for each owner. */
export function registerNamespaces(kms: Command, cli: Cli): void {
  const api = async (options: object): Promise<Api> =>
    kmsApi(await resolveSettings({ ...options }, cli.context), cli.context);
  const command = (group: Command, usage: string, description: string): Command =>
    settingOptions(group.command(usage).description(description), 'kms', 'kmsToken');

  const owner = kms.command('owner').description("Owners, each with a namespace; with the administrator's token");
  command(owner, 'add <name>', 'Add an owner, and print the first token, which is shown this once').action(
    async (name: string, options: object) => {
      demandName(name);
      const added = await (await api(options)).json('POST', '/v1/owners', newTokenSchema, { name });
      cli.output.result(added, [added.token]);
    },
  );
  command(owner, 'list', 'List the owners').action(async (options: object) => {
    const listed = await (await api(options)).json('GET', '/v1/owners', ownersSchema);
    cli.output.result(
      listed,
      listed.owners.map(({ name, addedAt }) => `${name} since ${addedAt}`),
    );
  });
  command(owner, 'quotas <name>', 'Set how much a namespace may use')
    .requiredOption('--models <n>', 'models')
    .requiredOption('--grants <n>', 'grants')
    .requiredOption('--leases <n>', 'live leases')
    .requiredOption('--releases-per-minute <n>', 'releases and renewals')
    .action(async (name: string, options: Record<string, string>) => {
      demandName(name);
      const { models, grants, leases, releasesPerMinute } = options;
      const numbers = Object.entries({ models, grants, leases, releasesPerMinute }).map(([key, value]) => [
        key,
        Number(value),
      ]);
      const quotas = quotasSchema.safeParse(Object.fromEntries(numbers));
      if (!quotas.success) throw new CfnError('CFN_USAGE', 'quotas: expected whole numbers, 0 or more');
      const set = await (await api(options)).json('PUT', `/v1/owners/${name}/quotas`, quotasSchema, quotas.data);
      cli.output.result(set, [`quotas of ${name} set`]);
    });

  const token = kms.command('token').description('Tokens of your namespace');
  command(token, 'add', 'Make a token, and print it; it is shown this once')
    .option('--auditor', 'may read what is yours, and change nothing')
    .action(async (options: { auditor?: boolean }) => {
      const role = options.auditor === true ? 'auditor' : 'admin';
      const added = await (await api(options)).json('POST', '/v1/tokens', newTokenSchema, { role });
      cli.output.result(added, [added.token]);
    });
  command(token, 'list', 'List the tokens by id').action(async (options: object) => {
    const listed = await (await api(options)).json('GET', '/v1/tokens', tokensSchema);
    cli.output.result(
      listed,
      listed.tokens.map(({ id, role, madeAt }) => `${id} ${role} ${madeAt}`),
    );
  });
  command(token, 'revoke <id>', 'Revoke a token').action(async (id: string, options: object) => {
    await (await api(options)).json('DELETE', `/v1/tokens/${encodeURIComponent(id)}`, z.object({}));
    cli.output.result({ revoked: id }, [`revoked ${id}`]);
  });

  const policy = kms.command('policy').description('The appraisal policy under which your keys are released');
  command(policy, 'show', 'Print the policy that counts: yours, or the one of the KMS').action(
    async (options: object) => {
      const shown = await (await api(options)).json('GET', '/v1/policy', z.looseObject({}));
      cli.output.result(shown, [JSON.stringify(shown, null, 2)]);
    },
  );
  command(policy, 'set <file>', 'Set your own, instead of the one of the KMS').action(
    async (file: string, options: object) => {
      const value = z.looseObject({}).safeParse(await readPolicyFile(resolve(cli.context.cwd, file)));
      if (!value.success) throw new CfnError('CFN_POLICY_INVALID', `${file} holds no policy`);
      const set = await (await api(options)).json('PUT', '/v1/policy', z.object({ policy: z.string() }), value.data);
      cli.output.result(set, [`policy ${set.policy}`]);
    },
  );
  command(policy, 'clear', 'Go back to the policy of the KMS').action(async (options: object) => {
    await (await api(options)).json('DELETE', '/v1/policy', z.object({}));
    cli.output.result({}, ['the policy of the KMS counts']);
  });
}

const newTokenSchema = z.object({ id: z.string(), token: z.string() });
const tokensSchema = z.object({ tokens: z.array(z.object({ id: z.string(), role: z.string(), madeAt: z.string() })) });
const ownersSchema = z.object({
  owners: z.array(z.object({ name: z.string(), addedAt: z.string(), quotas: quotasSchema.optional() })),
});

function demandName(name: string): void {
  if (!nameSchema.safeParse(name).success)
    throw new CfnError('CFN_USAGE', 'owner: expected lower-case letters, digits and hyphens');
}
