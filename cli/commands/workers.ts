import type { Command } from 'commander';
import { z } from 'zod';
import { CfnError } from '../../proto/index.ts';
import type { Api } from '../api.ts';
import type { Cli } from '../context.ts';
import { parseFunctionName } from '../function-name.ts';
import { gatewayApi } from '../push-model.ts';
import { resolveSettings, settingOptions } from '../settings.ts';

export function register(program: Command, cli: Cli): void {
  const workers = program
    .command('workers')
    .description("See what workers do and take them out; with the operator's token");
  settingOptions(
    workers
      .command('list')
      .description('List admitted workers with their load')
      .option('--why [tenant/function]', 'explain what each of them has; or for one function, why it is there, or not')
      .action((options: { why?: string | true }) => list(options, cli)),
    'gateway',
    'token',
  );
  settingOptions(
    workers
      .command('add <address>')
      .description('Challenge the worker at host:port, admit it, and keep challenging it; also after a restart')
      .action(async (address: string, options: object) => {
        const api = await gateway(options, cli);
        const worker = await api.json('POST', '/v1/workers', workerSchema, { address });
        cli.output.result(worker, [`admitted ${worker.workerId} at ${worker.address}, ${worker.tee}`]);
      }),
    'gateway',
    'token',
  );
  settingOptions(
    workers
      .command('remove <worker-or-address>')
      .description('Take a worker out at once and forget its address; by its address where it is away')
      .action(async (which: string, options: object) => {
        const api = await gateway(options, cli);
        const id = which.includes(':') ? which : await fullId(api, which);
        await api.json('DELETE', `/v1/workers/${encodeURIComponent(id)}`, z.undefined());
        cli.output.result({ removed: id }, [`removed ${id}`]);
      }),
    'gateway',
    'token',
  );
  const cordon = (name: string, description: string, cordoned: boolean): void => {
    const command = workers.command(`${name} <worker>`).description(description);
    command.action(async (start: string, options: object) => {
      const api = await gateway(options, cli);
      const workerId = await fullId(api, start);
      const worker = await api.json('POST', `/v1/workers/${workerId}/cordon`, workerSchema, { cordoned });
      cli.output.result(worker, [`${name}ed ${worker.workerId}`]);
    });
    settingOptions(command, 'gateway', 'token');
  };
  cordon('cordon', 'Give a worker no new requests', true);
  cordon('uncordon', 'Give a worker new requests again', false);
  settingOptions(
    workers
      .command('drain <worker>')
      .description('Give a worker no new requests, wait for those under way, and take it out')
      .action(async (start: string, options: object) => {
        const api = await gateway(options, cli);
        const workerId = await fullId(api, start);
        const schema = z.object({ workerId: z.string(), drained: z.literal(true) });
        const drained = await api.json('POST', `/v1/workers/${workerId}/drain`, schema, {});
        cli.output.result(drained, [`drained ${drained.workerId}`]);
      }),
    'gateway',
    'token',
  );
}

const workerSchema = z.looseObject({
  workerId: z.string(),
  address: z.string(),
  tee: z.string(),
  state: z.string().optional(),
  load: z.object({ inflight: z.number(), capacity: z.number() }).optional(),
  functions: z.number().optional(),
  models: z.number().nullable().optional(),
  memory: z.object({ budget: z.number(), free: z.number() }).nullable().optional(),
  placements: z
    .array(z.object({ function: z.string(), version: z.string(), state: z.string(), why: z.string() }))
    .optional(),
});
const workersSchema = z.object({ workers: z.array(workerSchema) });

const gateway = async (options: object, cli: Cli): Promise<Api> =>
  gatewayApi(await resolveSettings({ ...options }, cli.context), cli);

async function list({ why, ...options }: { why?: string | true }, cli: Cli): Promise<void> {
  if (typeof why === 'string') parseFunctionName(why);
  const query = why === undefined ? '' : `?why=${why === true ? '' : encodeURIComponent(why)}`;
  const listed = await (await gateway(options, cli)).json('GET', `/v1/workers${query}`, workersSchema);
  cli.output.result(listed, listed.workers.length === 0 ? ['no worker is admitted'] : listed.workers.flatMap(linesOf));
}

function linesOf({
  workerId,
  address,
  tee,
  state,
  load,
  functions,
  models,
  memory,
  placements,
}: z.infer<typeof workerSchema>): string[] {
  const mib = (bytes: number): string => `${Math.round(bytes / 1024 / 1024)} MiB`;
  const facts = [
    `${workerId.slice(0, 16)}… ${address} ${tee} ${state ?? ''}`.trimEnd(),
    ...(load === undefined ? [] : [`${load.inflight} of ${load.capacity} requests`]),
    ...(functions === undefined ? [] : [`${functions} functions`]),
    ...(models === undefined || models === null ? [] : [`${models} models`]),
    ...(memory === undefined || memory === null ? [] : [`${mib(memory.free)} of ${mib(memory.budget)} free`]),
  ];
  return [
    facts.join('  '),
    ...(placements ?? []).map((it) => `  ${it.state} ${it.function} ${it.version.slice(0, 12)}: ${it.why}`),
  ];
}

/** @throws {CfnError} `CFN_USAGE` */
async function fullId(api: Api, start: string): Promise<string> {
  const { workers } = await api.json('GET', '/v1/workers', workersSchema);
  const found = workers.filter(({ workerId }) => workerId.startsWith(start));
  const [only] = found;
  if (only !== undefined && found.length === 1 && start.length >= 6) return only.workerId;
  throw new CfnError(
    'CFN_USAGE',
    `expected at least 6 digits of one worker's id, have ${start.slice(0, 64)}; see \`cfn workers list\``,
  );
}
