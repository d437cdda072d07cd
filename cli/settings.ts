import { readFile, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { decodeJwt } from 'jose';
import { z } from 'zod';
import { CfnError, nameSchema } from '../proto/index.ts';
import type { Context } from './context.ts';

/** `.cfn/config.json`: where the services are and how to talk to them. It holds tokens: mode 0600. */
const settingsFileSchema = z
  .strictObject({
    gateway: z.url(),
    token: z.string().min(1),
    tenant: nameSchema,
    kms: z.url(),
    kmsToken: z.string().min(1),
    /** Path of the appraisal policy; a relative one starts at the folder that holds `.cfn`. */
    policy: z.string().min(1),
  })
  .partial();
export type Settings = z.infer<typeof settingsFileSchema>;
type Key = keyof Settings;

const SETTINGS: Readonly<Record<Key, { readonly flag: string; readonly env: string; readonly help: string }>> = {
  gateway: { flag: '--gateway <url>', env: 'CFN_GATEWAY', help: 'URL of the gateway' },
  token: {
    flag: '--token <token>',
    env: 'CFN_TOKEN',
    help: 'token of the gateway; the environment keeps it out of the list of processes',
  },
  tenant: { flag: '--tenant <name>', env: 'CFN_TENANT', help: "tenant; by default the token's" },
  kms: { flag: '--kms <url>', env: 'CFN_KMS', help: 'URL of the KMS' },
  kmsToken: { flag: '--kms-token <token>', env: 'CFN_KMS_TOKEN', help: "the model owner's token of the KMS" },
  policy: { flag: '--policy <file>', env: 'CFN_POLICY', help: 'appraisal policy, JSON: what you accept as a worker' },
};
const KEYS = Object.keys(SETTINGS) as Key[];

/** Adds the flags of these settings to a command. */
export function settingOptions(command: Command, ...keys: readonly Key[]): Command {
  for (const key of keys) command.option(SETTINGS[key].flag, `${SETTINGS[key].help} (${SETTINGS[key].env})`);
  return command;
}

/**
 * Flags, before the environment, before the nearest `.cfn/config.json` of this folder or one above it.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` when that file is malformed or others could have written it
 */
export async function resolveSettings(
  flags: Readonly<Record<string, unknown>>,
  { env, cwd }: Pick<Context, 'env' | 'cwd'>,
): Promise<Settings> {
  const settings: Settings = await readSettingsFile(cwd);
  for (const key of KEYS) {
    const flag = flags[key];
    const value = typeof flag === 'string' ? flag : env[SETTINGS[key].env];
    if (value !== undefined && value !== '') settings[key] = key === 'policy' ? resolve(cwd, value) : value;
  }
  return parse(settings, 'settings');
}

/** @throws {CfnError} `CFN_USAGE` that says how to give the setting */
export function need(settings: Settings, key: Key): string {
  const value = settings[key];
  if (value === undefined) {
    const { flag, env, help } = SETTINGS[key];
    throw new CfnError(
      'CFN_USAGE',
      `missing: ${help.split(';')[0]}; give ${flag}, ${env}, or "${key}" in .cfn/config.json`,
    );
  }
  return value;
}

/** The tenant to act as: given, or the one in the token. The gateway decides; this saves typing. */
export function tenantOf(settings: Settings): string {
  return settings.tenant ?? tokenTenant(need(settings, 'token')) ?? need(settings, 'tenant');
}

/** The tenant that the gateway's token says it is for; unverified, to refuse early what the gateway would refuse late. */
export function tokenTenant(token: string): string | undefined {
  try {
    return nameSchema.safeParse(decodeJwt(token)['tenant']).data;
  } catch {
    return undefined; // No JWT: what it is for is the gateway's to say.
  }
}

/** The namespace of an owner's token for a KMS. @throws {CfnError} `CFN_TOKEN_SCOPE` for a token of none */
export function tokenOwner(token: string): string {
  const owner = nameSchema.safeParse(token.split('.', 1)[0]).data;
  if (owner === undefined || !token.includes('.'))
    throw new CfnError('CFN_TOKEN_SCOPE', "the token is of no namespace; expected an owner's, NAME.SECRET");
  return owner;
}

async function readSettingsFile(cwd: string): Promise<Settings> {
  for (let folder = resolve(cwd); ; folder = dirname(folder)) {
    const file = join(folder, '.cfn', 'config.json');
    const found = await stat(file).catch(() => undefined);
    if (found?.isFile() === true) {
      // In a shared folder such as /tmp, somebody else's file could send our token to them.
      const mine = found.uid === process.getuid?.() || found.uid === 0;
      if (!mine || (found.mode & 0o022) !== 0) {
        throw new CfnError(
          'CFN_INPUT_INVALID',
          `${file} could be written by others; expected a file of your own with mode 0600`,
        );
      }
      const settings = parse(await readJson(file), file);
      return settings.policy === undefined ? settings : { ...settings, policy: resolve(folder, settings.policy) };
    }
    if (folder === dirname(folder)) return {};
  }
}

async function readJson(file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as unknown;
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', `${file} is not readable as JSON`, { cause });
  }
}

function parse(value: unknown, what: string): Settings {
  const parsed = settingsFileSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new CfnError('CFN_INPUT_INVALID', `${what}: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}`);
}
