import type { Command } from 'commander';
import {
  CfnError,
  usageAnswerSchema,
  usageBySchema,
  usageCsv,
  type UsageAnswer,
  type UsageBy,
} from '../../proto/index.ts';
import type { Api } from '../api.ts';
import type { Cli } from '../context.ts';
import { readPolicy } from '../policy.ts';
import { gatewayApi } from '../push-model.ts';
import { recount } from '../recount.ts';
import { need, resolveSettings, settingOptions } from '../settings.ts';

interface Options extends Record<string, unknown> {
  readonly by: string;
  readonly from?: string;
  readonly to?: string;
  readonly csv?: boolean;
  readonly ledgerKey?: string;
  readonly checkpoint?: string;
}

export function register(program: Command, cli: Cli): void {
  const usage = program
    .command('usage')
    .description('What was used, summed over receipts: your own and that of your models; for the operator all of it')
    .option('--by <what>', 'function, tenant or model', 'function')
    .option('--from <hour>', 'start of an hour, UTC: 2026-11-01 or 2026-11-01T13')
    .option('--to <hour>', 'the same; not included')
    .option('--csv', 'RFC 4180')
    .action((options: Options) => show(options, cli));
  settingOptions(usage, 'gateway', 'token');
  const verify = usage
    .command('verify')
    .description(
      'Count again what was sealed: batches are one chain, hold the receipts they say, and sum up to what is charged',
    )
    .option('--ledger-key <thumbprint>', 'whose batches of receipts you accept')
    .option('--checkpoint <file>', 'must be in the chain where it exists; then it is the newest batch')
    .action((_: object, command: Command) => verifyAction(command.optsWithGlobals<Options>(), cli));
  settingOptions(verify, 'policy');
}

async function show(options: Options, cli: Cli): Promise<void> {
  const { context, output } = cli;
  const by = usageBySchema.safeParse(options.by);
  if (!by.success) throw new CfnError('CFN_USAGE', `--by ${options.by}: function, tenant or model`);
  const answer = await allUsage(gatewayApi(await resolveSettings(options, context), cli), by.data, options);
  if (options.csv === true && !output.json) {
    context.stdout.write(usageCsv(by.data, answer.usage));
    return;
  }
  output.result(answer, [
    `from ${answer.from} to ${answer.to}${answer.final ? ', sealed' : ', not all of it sealed yet'}`,
    ...answer.usage.map((row) => {
      const parts = [
        `${row.requests} requests`,
        `${row.failed} of them failed`,
        ...(row.cpuMicroseconds === undefined ? [] : [`${ms(row.cpuMicroseconds)} ms CPU`]),
        `${ms(row.engineMicroseconds)} ms of models in ${row.engineCalls} calls`,
        ...(row.requestBytes === undefined ? [] : [`${row.requestBytes} bytes in`]),
        ...(row.responseBytes === undefined ? [] : [`${row.responseBytes} bytes out`]),
        ...(row.egressBytes === undefined ? [] : [`${row.egressBytes} bytes fetched`]),
      ];
      return `${row.subject === '' ? '(no function)' : row.subject}: ${parts.join(', ')}`;
    }),
  ]);
}

/** All pages as one. */
async function allUsage(
  api: Api,
  by: UsageBy,
  { from, to }: { readonly from?: string | undefined; readonly to?: string | undefined },
): Promise<UsageAnswer> {
  const query = new URLSearchParams({
    by,
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  });
  let answer: UsageAnswer | undefined;
  for (;;) {
    const page: UsageAnswer = await api.json('GET', `/v1/usage?${query.toString()}`, usageAnswerSchema);
    answer = { ...page, usage: [...(answer?.usage ?? []), ...page.usage] };
    if (page.next === undefined) return answer;
    query.set('after', page.next);
    query.set('to', page.to); // a page later it may be the next hour
  }
}

async function verifyAction(options: Options, cli: Cli): Promise<void> {
  const { context, output } = cli;
  const settings = await resolveSettings(options, context);
  const policy = await readPolicy(need(settings, 'policy'));
  const found = await recount(gatewayApi(settings, cli), { ...options, policy, cwd: context.cwd });
  output.result({ verified: true, ...found }, [
    `${found.batches} sealed hours are one chain, signed by ${found.signer}`,
    `${found.receipts} receipts of yours are in the ${found.hours} hours from ${found.from} to ${found.to}, among ${found.leaves} in all`,
    'each is signed by a worker whose evidence holds under your policy, and they sum up to what `cfn usage` says',
    ...(options.ledgerKey === undefined
      ? ['Not proven: that the key is the operator’s; --ledger-key was not given']
      : []),
  ]);
}

const ms = (microseconds: number): string => (microseconds / 1000).toFixed(3);
