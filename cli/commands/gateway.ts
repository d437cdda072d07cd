import type { Command } from 'commander';
import { z } from 'zod';
import type { Cli } from '../context.ts';
import { gatewayApi } from '../push-model.ts';
import { registerServe } from '../serve.ts';
import { resolveSettings, settingOptions } from '../settings.ts';

export function register(program: Command, cli: Cli): void {
  const gateway = registerServe(program, cli, {
    name: 'gateway',
    summary: 'Serve the gateway: outside the trust boundary, it relays sealed requests to admitted workers',
    entry: 'gateway/main.ts',
    flags:
      '--state DIR --listen HOST:PORT --admin HOST:PORT --policy FILE [--admit all|listed] [--lease SECONDS] [--worker HOST:PORT]... [--issuers FILE] [--redis-url-file FILE] [--trace-url URL] [--trace-ratio 0.01]',
  });
  const set = (usage: string, description: string, admitted: boolean): void => {
    const command = gateway
      .command(`${usage} <subject>`)
      .description(
        `${description}: a tenant or owner, tenant/function, or owner/name@version; with the operator's token`,
      )
      .action(async (subject: string, options: object) => {
        const api = gatewayApi(await resolveSettings({ ...options }, cli.context), cli);
        const result = await api.json('POST', '/v1/consents', consentSchema, { subject, admitted });
        cli.output.result(result, [`${admitted ? 'admitted' : 'dismissed'} ${result.subject}`]);
      });
    settingOptions(command, 'gateway', 'token');
  };
  set('admit', 'Let functions be called', true);
  set('dismiss', 'Let functions be called no more', false);
  const list = gateway
    .command('consents')
    .description("List what was admitted and dismissed; with the operator's token")
    .action(async (options: object) => {
      const api = gatewayApi(await resolveSettings({ ...options }, cli.context), cli);
      const listed = await api.json('GET', '/v1/consents', z.object({ consents: z.array(consentSchema) }));
      cli.output.result(
        listed,
        listed.consents.map(({ subject, admitted }) => `${subject} ${admitted ? 'admitted' : 'dismissed'}`),
      );
    });
  settingOptions(list, 'gateway', 'token');
}

const consentSchema = z.object({ subject: z.string(), admitted: z.boolean() });
