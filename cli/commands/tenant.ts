import type { Command } from 'commander';
import { z } from 'zod';
import { CfnError, nameSchema } from '../../proto/index.ts';
import type { Api } from '../api.ts';
import type { Cli } from '../context.ts';
import { gatewayApi } from '../push-model.ts';
import { resolveSettings, settingOptions, tenantOf } from '../settings.ts';

const tenantSchema = z.object({ name: z.string(), createdAt: z.string() });
const usedSchema = z.object({ requests: z.number(), engineMs: z.number(), bytes: z.number() });
const periodSchema = usedSchema.partial();
const limitsSchema = z.object({
  requestsPerSecond: z.number().optional(),
  burst: z.number().optional(),
  concurrency: z.number().optional(),
  day: periodSchema.optional(),
  month: periodSchema.optional(),
});
const standingSchema = z.object({
  tenant: z.string(),
  limits: limitsSchema,
  used: z.object({ day: usedSchema, month: usedSchema }).optional(),
});
type Limits = z.infer<typeof limitsSchema>;

/** Tenants and what they may use. */
export function register(program: Command, cli: Cli): void {
  const tenant = program.command('tenant').description('Tenants of a gateway, and what they may use');
  const api = async (options: object): Promise<Api> =>
    gatewayApi(await resolveSettings({ ...options }, cli.context), cli);

  const add = tenant
    .command('add <name>')
    .description("Make a tenant; with the operator's token")
    .action(async (name: string, options: object) => {
      const added = await (await api(options)).json('POST', '/v1/tenants', tenantSchema, { name });
      cli.output.result(added, [
        `added ${added.name}; \`cfn token create NAME --role owner --for ${added.name}\` makes its first key`,
      ]);
    });
  const list = tenant
    .command('list')
    .description("List the tenants; with the operator's token")
    .action(async (options: object) => {
      const listed = await (
        await api(options)
      ).json('GET', '/v1/tenants', z.object({ tenants: z.array(tenantSchema) }));
      cli.output.result(
        listed,
        listed.tenants.map(({ name, createdAt }) => `${name} since ${createdAt}`),
      );
    });

  const limits = tenant
    .command('limits [name]')
    .description(
      "Show what a tenant may use and has used; with limits, set them in place of all that were set before, with the operator's token",
    )
    .option('--requests-per-second <n>', 'over all gateways')
    .option('--burst <n>', 'requests at once after a pause; by default one second of them')
    .option('--concurrency <n>', 'requests under way');
  for (const period of ['day', 'month'])
    limits
      .option(`--requests-per-${period} <n>`, 'requests')
      .option(`--engine-ms-per-${period} <n>`, 'time of engines, in ms')
      .option(`--bytes-per-${period} <n>`, 'bytes of requests and answers');
  limits
    .option('--none', 'take all limits away')
    .action(async (name: string | undefined, options: Record<string, unknown>) => {
      const wanted = given(options);
      const settings = await resolveSettings({ ...options }, cli.context);
      const whose = nameSchema.safeParse(name ?? tenantOf(settings));
      if (!whose.success) throw new CfnError('CFN_USAGE', 'tenant: expected lower-case letters, digits and hyphens');
      const path = `/v1/tenants/${whose.data}/limits`;
      const gateway = gatewayApi(settings, cli);
      const standing = await (wanted === undefined
        ? gateway.json('GET', path, standingSchema)
        : gateway.json('PUT', path, standingSchema, wanted));
      cli.output.result(standing, lines(standing));
    });
  for (const command of [add, list]) settingOptions(command, 'gateway', 'token');
  settingOptions(limits, 'gateway', 'token', 'tenant');
}

/** The limits that flags say; `undefined` without any. */
function given(options: Readonly<Record<string, unknown>>): Limits | undefined {
  const number = (key: string): number | undefined => {
    const text = options[key];
    if (text === undefined) return undefined;
    if (typeof text !== 'string' || !/^\d{1,15}(\.\d{1,3})?$/.test(text))
      throw new CfnError('CFN_USAGE', `${key}: expected a number`);
    return Number(text);
  };
  const period = (name: 'Day' | 'Month'): Limits['day'] =>
    present({
      requests: number(`requestsPer${name}`),
      engineMs: number(`engineMsPer${name}`),
      bytes: number(`bytesPer${name}`),
    });
  const limits = present({
    requestsPerSecond: number('requestsPerSecond'),
    burst: number('burst'),
    concurrency: number('concurrency'),
    day: period('Day'),
    month: period('Month'),
  });
  if (options['none'] !== true) return limits;
  if (limits !== undefined) throw new CfnError('CFN_USAGE', '--none goes with no other limit');
  return {};
}

function present<T extends object>(value: T): { [K in keyof T]?: NonNullable<T[K]> } | undefined {
  const entries = Object.entries(value).filter(([, one]) => one !== undefined);
  return entries.length === 0 ? undefined : (Object.fromEntries(entries) as { [K in keyof T]?: NonNullable<T[K]> });
}

function lines({ tenant, limits, used }: z.infer<typeof standingSchema>): string[] {
  const { requestsPerSecond, burst, concurrency } = limits;
  const told = [
    ...(requestsPerSecond === undefined
      ? []
      : [`${requestsPerSecond} requests a second${burst === undefined ? '' : `, ${burst} at once after a pause`}`]),
    ...(concurrency === undefined ? [] : [`${concurrency} requests under way`]),
    ...(['day', 'month'] as const).flatMap((period) =>
      (['requests', 'engineMs', 'bytes'] as const).flatMap((what) => {
        const max = limits[period]?.[what];
        const have = used?.[period][what];
        if (max === undefined && have === undefined) return [];
        return [
          `${what} of this ${period}: ${have === undefined ? '' : `${Math.round(have)} used, `}${max === undefined ? 'no limit' : `${max} at most`}`,
        ];
      }),
    ),
  ];
  return told.length === 0 ? [`${tenant} has no limits`] : [tenant, ...told.map((one) => `  ${one}`)];
}
