import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import {
  CfnError,
  digestSchema,
  grantSchema,
  signWithdrawal,
  verifyManifest,
  verifyStatement,
} from '../../proto/index.ts';
import { kmsApi, type Api } from '../api.ts';
import { openAuthorKey } from '../author-key.ts';
import type { Cli } from '../context.ts';
import { resolveSettings, settingOptions } from '../settings.ts';

/** What an owner sees and takes back of models and grants; all of it is the KMS's to say, and no gateway is asked. */
export function registerGrants(model: Command, cli: Cli): void {
  const command = (usage: string, description: string): Command =>
    settingOptions(model.command(usage).description(description), 'kms', 'kmsToken');
  const api = async (options: object): Promise<Api> =>
    kmsApi(await resolveSettings({ ...options }, cli.context), cli.context);

  command('list', 'List your models whose keys the KMS has').action(async (options: object) => {
    const models = await modelsOf(await api(options));
    cli.output.result(
      { models },
      models.map(({ model: name, digest, withdrawnAt }) =>
        withdrawnAt === undefined ? `${name} ${digest}` : `${name} ${digest} withdrawn ${withdrawnAt}`,
      ),
    );
  });
  command('show <owner/name@version>', 'Show the grants of a model, what was used, and its leases').action(
    async (name: string, options: object) => {
      const kms = await api(options);
      const { digest } = await findModel(name, kms);
      const { grants } = await kms.json('GET', `/v1/models/${digest}/grants`, grantsSchema);
      const all = (await kms.json('GET', '/v1/leases', leasesSchema)).leases.filter((lease) => lease.model === digest);
      const leases = all.filter((lease) => lease.live);
      const ended = all.filter((lease) => !lease.live).slice(0, ENDED_SHOWN);
      const ends = await Promise.all(ended.map((lease) => wordsOfEnd(lease, cli.context.now())));
      cli.output.result({ model: name, digest, grants, leases, ended }, [
        `${name} ${digest}`,
        ...grants.map((grant) => `grant ${grant.id} to ${wordsOf(grant)}`),
        ...leases.map((lease) => `lease ${lease.lease} of ${lease.tenant}/${lease.function} until ${lease.endsAt}`),
        ...ended.map((lease, i) => `ended ${lease.lease} of ${lease.tenant}/${lease.function}, ${ends[i]}`),
      ]);
    },
  );
  command('revoke <owner/name@version>', 'Remove a grant and end its leases, or end one lease')
    .option('--grant <id>', 'the grant, as `show` names it')
    .option('--lease <id>', 'one lease; its worker may ask again as long as the grant stands')
    .action(async (name: string, options: { grant?: string; lease?: string }) => {
      const kms = await api(options);
      if ((options.grant === undefined) === (options.lease === undefined))
        throw new CfnError('CFN_USAGE', 'expected --grant ID or --lease ID, as `cfn model show` names them');
      if (options.lease !== undefined) {
        await kms.json('DELETE', `/v1/leases/${encodeURIComponent(options.lease)}`, z.object({}));
        return cli.output.result({ leasesRevoked: 1 }, [`revoked lease ${options.lease}`]);
      }
      const { digest } = await findModel(name, kms);
      const path = `/v1/models/${digest}/grants/${encodeURIComponent(options.grant ?? '')}`;
      const revoked = await kms.json('DELETE', path, revokedSchema);
      cli.output.result(revoked, [`revoked grant ${options.grant}; ${revoked.leasesRevoked} leases ended`]);
    });
  command('withdraw <owner/name@version>', 'Withdraw a model version for good: its key is forgotten, its leases end')
    .requiredOption('--for-good', 'there is no way back: the version can not be served again, nor its key be stored')
    .action(async (name: string, options: object) => {
      const kms = await api(options);
      const { digest } = await findModel(name, kms);
      const revoked = await kms.json('DELETE', `/v1/models/${digest}`, revokedSchema);
      cli.output.result({ model: name, digest, ...revoked }, [
        `withdrew ${name}; ${revoked.leasesRevoked} leases ended`,
      ]);
    });
  command(
    'withdraw-function <manifest>',
    'As its author, withdraw a function version at a KMS for good; its signed manifest in a file',
  )
    .requiredOption('--for-good', 'there is no way back: the version gets no key again')
    .action(async (file: string, options: object) => {
      const jws = await readManifest(resolve(cli.context.cwd, file));
      const { version } = await verifyManifest(jws);
      const { key } = await openAuthorKey(cli.context);
      const body = { functionManifest: jws, statement: await signWithdrawal(version, key) };
      const revoked = await (await api(options)).json('POST', '/v1/withdrawals', revokedSchema, body);
      cli.output.result({ version, ...revoked }, [`withdrew ${version}; ${revoked.leasesRevoked} leases ended`]);
    });
}

const modelsSchema = z.object({
  models: z.array(z.object({ digest: digestSchema, model: z.string(), withdrawnAt: z.string().optional() })),
});
const grantsSchema = z.object({
  grants: z.array(
    grantSchema.extend({
      id: z.string(),
      grantedAt: z.string(),
      invocations: z.object({ used: z.int(), taken: z.int(), outstanding: z.int() }),
    }),
  ),
});
/** Of the leases that ended, the newest so many. */
const ENDED_SHOWN = 20;
const leasesSchema = z.object({
  leases: z.array(
    z.object({
      lease: z.string(),
      live: z.boolean(),
      model: z.string(),
      tenant: z.string(),
      function: z.string(),
      version: z.string(),
      worker: z.string(),
      receiptKey: z.string(),
      used: z.int(),
      endsAt: z.string(),
      revokedAt: z.string().optional(),
      droppedAt: z.string().optional(),
      statement: z.string().optional(),
    }),
  ),
});
const revokedSchema = z.object({ leasesRevoked: z.int() });

async function modelsOf(kms: Api): Promise<z.infer<typeof modelsSchema>['models']> {
  return (await kms.json('GET', '/v1/models', modelsSchema)).models;
}

async function findModel(name: string, kms: Api): Promise<{ readonly digest: string }> {
  const found = (await modelsOf(kms)).filter(({ model }) => model === name);
  const [model] = found;
  if (model === undefined) throw new CfnError('CFN_MODEL_NOT_FOUND', `the KMS has no key of ${name} for this token`);
  if (found.length > 1) throw new CfnError('CFN_CONFLICT', `the KMS has ${found.length} packages named ${name}`);
  return model;
}

async function readManifest(path: string): Promise<string> {
  try {
    return (await readFile(path, 'utf8')).trim();
  } catch (cause) {
    throw new CfnError('CFN_USAGE', `cannot read ${path}`, { cause });
  }
}

/** The statement of the worker is verified here, too: by the receipt key that the KMS says its evidence bound. */
async function wordsOfEnd(lease: z.infer<typeof leasesSchema>['leases'][number], now: Date): Promise<string> {
  const revoked = lease.revokedAt === undefined ? [] : [`revoked ${lease.revokedAt}`];
  if (lease.statement === undefined)
    return `${revoked[0] ?? `ran out ${lease.endsAt}`}, and its worker has not said that the key is gone`;
  const { used, reason, lease: of } = await verifyStatement('cfn-key-dropped+jwt', lease.statement, lease, now);
  if (of !== lease.lease)
    throw new CfnError('CFN_RECEIPT_INVALID', `the statement of ${lease.lease} is of another lease`);
  const dropped = `key dropped ${lease.droppedAt} after ${used ?? lease.used} invocations (${reason}), signed by ${lease.worker}`;
  return [...revoked, dropped].join(', ');
}

/** Invocations of a grant: what is neither used, with workers, nor left was with workers that ended without a word. */
function wordsOfUse({ maxInvocations, invocations }: z.infer<typeof grantsSchema>['grants'][number]): string {
  const { used, taken, outstanding } = invocations;
  if (maxInvocations === undefined) return `used ${used} times`;
  const [left, lost] = [Math.max(0, maxInvocations - taken), taken - used - outstanding];
  return `used ${used} of ${maxInvocations} times, ${outstanding} with workers, ${lost} lost, ${left} left`;
}

function wordsOf(grant: z.infer<typeof grantsSchema>['grants'][number]): string {
  const { tenant, author, version, tee, gpu, reference, leaseMs, until } = grant;
  return [
    `${tenant}/${grant.function}`,
    ...(author === undefined ? [] : [`author ${author}`]),
    ...(version === undefined ? [] : [`version ${version}`]),
    ...(tee === undefined ? [] : [`on ${tee.join(' or ')}`]),
    ...(gpu === undefined ? [] : [`with ${gpu.join(' or ')}`]),
    ...(reference === undefined ? [] : ['of known images']),
    `until ${until}, lease ${leaseMs / 1000} s`,
    wordsOfUse(grant),
  ].join(', ');
}
