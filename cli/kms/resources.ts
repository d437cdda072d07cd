import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { z } from 'zod';
import {
  CfnError,
  kmsInfoSchema,
  RESOURCE_BYTES_MAX,
  resourceInfo,
  resourceListSchema,
  resourcePartSchema,
  resourceTermsSchema,
  sealTo,
} from '../../proto/index.ts';
import { kmsApi, type Api } from '../api.ts';
import type { Cli } from '../context.ts';
import { need, resolveSettings, settingOptions, tokenOwner } from '../settings.ts';
import { readTerms, termOptions, type TermOptions } from './terms.ts';

/** `cfn kms resource put|list|remove`: what clients of the key broker protocol are given. */
export function registerResources(kms: Command, cli: Cli): void {
  const resource = kms
    .command('resource')
    .description('Secrets for clients of the KBS protocol (Confidential Containers), released after attestation');
  const api = async (options: object): Promise<Api> =>
    kmsApi(await resolveSettings({ ...options }, cli.context), cli.context);
  const command = (usage: string, description: string): Command =>
    settingOptions(resource.command(usage).description(description), 'kms', 'kmsToken');

  termOptions(
    command('put <type/tag>', 'Store a file, sealed to the KMS; clients get it as OWNER/TYPE/TAG')
      .requiredOption('--from <file>', `its content, at most ${RESOURCE_BYTES_MAX / 1024} KiB`)
      .option(
        '--insecure-sample',
        'under a simulated policy, give it also to clients whose evidence nobody signed: to whoever asks',
      ),
  ).action(async (name: string, options: PutOptions) => {
    const [type, tag] = partsOf(name);
    const terms = resourceTermsSchema.safeParse({
      ...(await readTerms(options, cli)),
      ...(options.insecureSample === true && { insecureSample: true }),
    });
    if (!terms.success) {
      const [issue] = terms.error.issues;
      throw new CfnError('CFN_USAGE', `${issue?.path.join('.') ?? 'terms'}: ${issue?.message ?? 'invalid'}`);
    }
    const content = await readContent(resolve(cli.context.cwd, options.from));
    try {
      const settings = await resolveSettings({ ...options }, cli.context);
      const owner = tokenOwner(need(settings, 'kmsToken'));
      const kmsOf = kmsApi(settings, cli.context);
      const { publicKey } = await kmsOf.json('GET', '/v1/info', kmsInfoSchema);
      const sealed = await sealTo(publicKey, content, resourceInfo(owner, type, tag));
      const put = await kmsOf.json('PUT', `/v1/resources/${type}/${tag}`, z.object({ resource: z.string() }), {
        sealed,
        terms: terms.data,
      });
      cli.output.result({ ...put, bytes: content.length, terms: terms.data }, [
        `stored ${put.resource}, ${content.length} bytes, until ${terms.data.until}`,
      ]);
    } finally {
      content.fill(0);
    }
  });
  command('list', 'List your resources with their terms').action(async (options: object) => {
    const listed = await (await api(options)).json('GET', '/v1/resources', resourceListSchema);
    cli.output.result(listed, listed.resources.map(lineOf));
  });
  command('remove <type/tag>', 'Remove a resource: no client is given it again').action(
    async (name: string, options: object) => {
      const [type, tag] = partsOf(name);
      await (await api(options)).json('DELETE', `/v1/resources/${type}/${tag}`, z.object({}));
      cli.output.result({ removed: name }, [`removed ${name}`]);
    },
  );
}

interface PutOptions extends TermOptions {
  readonly from: string;
  readonly insecureSample?: boolean;
}

function partsOf(name: string): [type: string, tag: string] {
  const [type = '', tag = '', ...rest] = name.split('/');
  if (rest.length > 0 || !resourcePartSchema.safeParse(type).success || !resourcePartSchema.safeParse(tag).success)
    throw new CfnError('CFN_USAGE', 'resource: expected TYPE/TAG, each of letters, digits, "_", "-" and "."');
  return [type, tag];
}

async function readContent(path: string): Promise<Uint8Array> {
  const content = await readFile(path).catch((cause: unknown) => {
    throw new CfnError('CFN_USAGE', `--from: cannot read ${path}`, { cause });
  });
  if (content.length > 0 && content.length <= RESOURCE_BYTES_MAX) return content;
  throw new CfnError('CFN_USAGE', `--from: the file has ${content.length} bytes, expected 1 to ${RESOURCE_BYTES_MAX}`);
}

function lineOf({ resource, bytes, terms }: z.infer<typeof resourceListSchema>['resources'][number]): string {
  const { tee, gpu, reference, insecureSample, until } = terms;
  return [
    `${resource} ${bytes} bytes`,
    ...(tee === undefined ? [] : [`on ${tee.join(' or ')}`]),
    ...(gpu === undefined ? [] : [`with ${gpu.join(' or ')}`]),
    ...(reference === undefined ? [] : ['of known images']),
    ...(insecureSample === undefined ? [] : ['and to INSECURE samples']),
    `until ${until}`,
  ].join(', ');
}
