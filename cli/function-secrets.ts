import { resolve } from 'node:path';
import { z } from 'zod';
import { readFunctionConfig } from '../artifacts/index.ts';
import {
  CfnError,
  KEY_LEASE_MS,
  kmsInfoSchema,
  sealTo,
  SECRET_BYTES_MAX,
  SECRETS_MAX,
  secretInfo,
  secretNameSchema,
  secretsId,
  utf8,
  type FunctionManifest,
  type PutSecrets,
} from '../proto/index.ts';
import { apiClient, kmsApi, type Api } from './api.ts';
import type { Cli } from './context.ts';
import { parseFunctionName } from './function-name.ts';
import { need, tenantOf, tokenOwner, type Settings } from './settings.ts';

/** Where the secrets of a function live. */
export interface SecretPlace {
  readonly tenant: string;
  readonly name: string;
  /** Namespace at the KMS. */
  readonly owner: string;
  readonly kms: Api;
}

/** The function of the project, or the one that is named; with the owner's token, which says whose namespace. */
export async function secretPlace(
  options: { readonly to?: string; readonly project: string },
  settings: Settings,
  { context }: Cli,
): Promise<SecretPlace> {
  const owner = tokenOwner(need(settings, 'kmsToken'));
  if (options.to !== undefined) return { ...parseFunctionName(options.to), owner, kms: kmsApi(settings, context) };
  const { name, secrets } = await readFunctionConfig(resolve(context.cwd, options.project));
  const tenant = tenantOf(settings);
  const expected = secrets.owner ?? tenant;
  if (owner !== expected)
    throw new CfnError(
      'CFN_TOKEN_SCOPE',
      `the token is of namespace ${owner}, the function's secrets are in ${expected}: see [secrets] owner`,
    );
  const kms = need(settings, 'kms');
  // The token goes where its holder says, never where a file of the project does.
  if (secrets.kms !== undefined && bare(secrets.kms) !== bare(kms))
    throw new CfnError(
      'CFN_USAGE',
      `the project keeps its secrets at ${secrets.kms}, the token is for ${kms}: give --kms ${secrets.kms} and a token of it, if you trust it`,
    );
  return { tenant, name, owner, kms: kmsApi(settings, context) };
}

const bare = (url: string): string => url.replace(/\/+$/, '');

/**
 * Seals values on this machine, and gives them to the KMS, all or none.
 *
 * @param terms to whom they are released
 * @throws {CfnError} `CFN_USAGE` for what cannot be a secret; its message names no value
 */
export async function putSecrets(
  { tenant, name, owner, kms }: SecretPlace,
  values: Readonly<Record<string, string>>,
  terms: { readonly author: string; readonly version?: string; readonly leaseMs?: number },
): Promise<{ readonly leasesRevoked: number }> {
  const { publicKey } = await kms.json('GET', '/v1/info', kmsInfoSchema);
  const id = await secretsId(owner, tenant, name);
  const secrets: PutSecrets['secrets'] = {};
  for (const [secret, value] of Object.entries(values)) {
    demandSecretName(secret);
    const bytes = utf8(value);
    if (bytes.length > SECRET_BYTES_MAX)
      throw new CfnError('CFN_USAGE', `${secret} has ${bytes.length} bytes, the most is ${SECRET_BYTES_MAX}`);
    secrets[secret] = await sealTo(publicKey, bytes, secretInfo(id, secret));
    bytes.fill(0);
  }
  const count = Object.keys(secrets).length;
  if (count === 0 || count > SECRETS_MAX)
    throw new CfnError('CFN_USAGE', `expected 1 to ${SECRETS_MAX} secrets, have ${count}`);
  const put = { leaseMs: KEY_LEASE_MS, ...terms, secrets };
  return kms.json('PUT', secretsPath({ tenant, name }), changedSchema, put);
}

export const changedSchema = z.strictObject({ leasesRevoked: z.int() });
export const secretsPath = ({ tenant, name }: Pick<SecretPlace, 'tenant' | 'name'>): string =>
  `/v1/functions/${tenant}/${name}/secrets`;

export function demandSecretName(name: string): void {
  if (!secretNameSchema.safeParse(name).success)
    throw new CfnError('CFN_USAGE', `a secret's name has letters, digits and _, have ${name.slice(0, 100)}`);
}

/** A KMS and a namespace there; the settings' and the tenant's stand in for what is left out. */
export interface SecretSource {
  readonly kms?: string;
  readonly owner?: string;
}

/** What a manifest says of its secrets: names, and the KMS that has the values. */
export async function pinSecrets(
  required: readonly string[],
  { kms, owner }: SecretSource,
  tenant: string,
  settings: Settings,
  { context }: Cli,
): Promise<Pick<FunctionManifest, 'secrets'>> {
  if (required.length === 0) return {};
  const url = kms ?? need(settings, 'kms');
  const api = apiClient({ service: 'kms', url, fetch: context.fetch, signal: context.ended });
  const { publicKey } = await api.json('GET', '/v1/info', kmsInfoSchema);
  return { secrets: { kms: { url, publicKey }, owner: owner ?? tenant, names: [...required] } };
}
