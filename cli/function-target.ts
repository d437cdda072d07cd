import { readFunctionConfig } from '../artifacts/index.ts';
import { CfnError, nameSchema } from '../proto/index.ts';
import type { Cli } from './context.ts';
import { gatewayApi } from './push-model.ts';
import { resolveSettings, settingOptions, tenantOf } from './settings.ts';
import type { Api } from './api.ts';
import type { Command } from 'commander';

/** One function of the caller's tenant, and the gateway that has it. */
export interface FunctionTarget {
  readonly api: Api;
  readonly tenant: string;
  readonly name: string;
  /** Of the function in the control API. */
  readonly path: string;
}

/** Adds the flags that say which function is meant. */
export function targetOptions(command: Command): Command {
  command.option('--name <function>', 'the function; by default the one whose project is in this folder');
  return settingOptions(command, 'gateway', 'token', 'tenant');
}

/** The function that flags name, or that the project in this folder is of. @throws {CfnError} `CFN_USAGE` */
export async function functionTarget(options: { readonly name?: string }, cli: Cli): Promise<FunctionTarget> {
  const settings = await resolveSettings({ ...options }, cli.context);
  const name = options.name ?? (await readFunctionConfig(cli.context.cwd).catch(() => undefined))?.name;
  if (name === undefined)
    throw new CfnError('CFN_USAGE', 'missing: the function; give --name, or call this in the folder of its project');
  if (!nameSchema.safeParse(name).success)
    throw new CfnError('CFN_USAGE', `--name: ${name.slice(0, 100)} is no name of a function`);
  const tenant = tenantOf(settings);
  return { api: gatewayApi(settings, cli), tenant, name, path: `/v1/functions/${tenant}/${name}` };
}
