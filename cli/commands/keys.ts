import type { Command } from 'commander';
import { z } from 'zod';
import { kmsApi } from '../api.ts';
import type { Cli } from '../context.ts';
import { resolveSettings, settingOptions } from '../settings.ts';

export function register(program: Command, cli: Cli): void {
  const keys = program.command('keys').description('List and rotate the keys of a KMS');
  const list = keys
    .command('list')
    .description("Versions of your namespace's key; with the administrator's token, of the root key")
    .action((options: object) => listAction(options, cli));
  settingOptions(list, 'kms', 'kmsToken');
  const rotate = keys
    .command('rotate')
    .description(
      "Make a new version of your namespace's key and wrap all data keys under it; with the administrator's token, of the root key",
    )
    .action((options: object) => rotateAction(options, cli));
  settingOptions(rotate, 'kms', 'kmsToken');
}

const namespaceSchema = z.object({
  versions: z.array(
    z.object({
      version: z.int(),
      madeAt: z.string(),
      retiredAt: z.string().optional(),
      models: z.int(),
      leasesLive: z.int(),
    }),
  ),
});
const rootSchema = z.object({
  root: z.object({ kind: z.string(), version: z.int() }),
  versions: z.array(z.object({ version: z.int(), keys: z.int() })),
});

async function listAction(options: object, cli: Cli): Promise<void> {
  const kms = kmsApi(await resolveSettings({ ...options }, cli.context), cli.context);
  const listed = await kms.json('GET', '/v1/keys', z.union([rootSchema, namespaceSchema]));
  if ('root' in listed) {
    cli.output.result(listed, [
      `root key in ${PLACES[listed.root.kind] ?? listed.root.kind}, version ${listed.root.version}`,
      ...listed.versions.map(({ version, keys }) => `version ${version} wraps ${count(keys, 'key')}`),
    ]);
    return;
  }
  cli.output.result(
    listed,
    listed.versions.map(({ version, madeAt, retiredAt, models, leasesLive }) => {
      const leases = leasesLive === 0 ? '' : `, ${count(leasesLive, 'live lease')} from it`;
      const state = retiredAt === undefined ? `wraps ${count(models, 'data key')}` : `retired ${retiredAt}`;
      return `version ${version} of ${madeAt} ${state}${leases}`;
    }),
  );
}

async function rotateAction(options: object, cli: Cli): Promise<void> {
  const kms = kmsApi(await resolveSettings({ ...options }, cli.context), cli.context);
  const schema = z.object({ version: z.int(), models: z.int().optional(), keys: z.int().optional() });
  const rotated = await kms.json('POST', '/v1/keys/rotate', schema);
  const { version, models, keys } = rotated;
  cli.output.result(rotated, [
    models === undefined
      ? `root key: version ${version} wraps ${count(keys ?? 0, 'key')}`
      : `version ${version} wraps ${count(models, 'data key')}; live leases run out as they are, new ones use it`,
  ]);
}

const PLACES: Readonly<Record<string, string>> = { file: 'a file', pkcs11: 'an HSM', transit: 'a transit service' };
const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;
