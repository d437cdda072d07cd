import type { Command } from 'commander';
import { z } from 'zod';
import { CfnError, parseDuration } from '../../proto/index.ts';
import type { Cli } from '../context.ts';
import { gatewayApi } from '../push-model.ts';
import { resolveSettings, settingOptions } from '../settings.ts';
import type { Api } from '../api.ts';

const keySchema = z.object({
  id: z.string(),
  name: z.string(),
  role: z.string(),
  tenant: z.string().optional(),
  createdAt: z.string(),
  expiresAt: z.string().optional(),
  usedAt: z.string().optional(),
});
type Key = z.infer<typeof keySchema>;

/** API keys of the gateway. */
export function register(program: Command, cli: Cli): void {
  const token = program
    .command('token')
    .description('API keys: for CI, services and callers, with a role, to be revoked');
  const api = async (options: object): Promise<Api> =>
    gatewayApi(await resolveSettings({ ...options }, cli.context), cli);

  const create = token
    .command('create <name>')
    .description('Make a key, and print it; it is shown this once')
    .requiredOption('--role <role>', 'owner, developer, viewer or invoker; for operators also operator and worker')
    .option('--for <tenant>', 'whose key it is, for operators to say')
    .option('--ttl <duration>', 'until when, such as 12h; by default until it is revoked')
    .action(async (name: string, options: { role: string; for?: string; ttl?: string }) => {
      const made = await (
        await api(options)
      ).json('POST', '/v1/keys', keySchema.extend({ key: z.string() }), {
        name,
        role: options.role,
        ...(options.for === undefined ? {} : { tenant: options.for }),
        ...(options.ttl === undefined ? {} : { ttlSeconds: Math.ceil(parseDuration(options.ttl) / 1000) }),
      });
      cli.output.result(made, [made.key]);
      cli.output.note(
        `${made.id}: ${made.role}${made.tenant === undefined ? '' : ` of ${made.tenant}`}; keep it, it is not shown again`,
      );
    });
  const list = token
    .command('list')
    .description('List the keys, without their secrets')
    .action(async (options: object) => {
      const listed = await (await api(options)).json('GET', '/v1/keys', z.object({ keys: z.array(keySchema) }));
      cli.output.result(listed, listed.keys.map(line));
    });
  const revoke = token
    .command('revoke <id>')
    .description('Revoke a key; gateways refuse it within 5 seconds')
    .action(async (id: string, options: object) => {
      if (!/^[0-9a-f]{16}$/.test(id))
        throw new CfnError('CFN_USAGE', 'expected the id of a key, as `cfn token list` shows it');
      await (await api(options)).json('DELETE', `/v1/keys/${id}`, z.undefined());
      cli.output.result({ revoked: id }, [`revoked ${id}`]);
    });
  for (const command of [create, list, revoke]) settingOptions(command, 'gateway', 'token');
}

function line({ id, name, role, tenant, createdAt, expiresAt, usedAt }: Key): string {
  const whose = tenant === undefined ? role : `${role} of ${tenant}`;
  const ends = expiresAt === undefined ? '' : `, until ${expiresAt}`;
  return `${id} ${name}: ${whose}, made ${createdAt}${ends}, ${usedAt === undefined ? 'never used' : `used ${usedAt}`}`;
}
