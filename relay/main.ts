import { writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { CfnError, EXIT_CODES } from '../proto/index.ts';
import { startFailure } from '../proto/node.ts';
import type { Log } from './relay.ts';
import { startRelay } from './service.ts';

// The relay as a process. One JSON line on standard output when it is ready, its log as JSON lines on standard error.

const log: Log = (event, fields) =>
  void writeSync(2, `${JSON.stringify({ at: new Date().toISOString(), event, ...fields })}\n`);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      listen: { type: 'string', default: '127.0.0.1:8788' },
      to: { type: 'string', multiple: true, default: [] },
    },
  });
  if (values.to.length === 0) throw new CfnError('CFN_USAGE', 'expected --to ORIGIN, the gateway to forward to');
  const [, host, port] = /^(?:\[)?(.+?)(?:\])?:(\d+)$/.exec(values.listen) ?? [];
  if (host === undefined) throw new CfnError('CFN_USAGE', '--listen: expected HOST:PORT');
  const relay = await startRelay({ host, port: Number(port), to: values.to, log });
  for (const signal of ['SIGTERM', 'SIGINT'] as const)
    process.once(signal, () => void relay.stop().then(() => process.exit(0)));
  process.stdout.write(`${JSON.stringify({ ready: true, url: relay.url })}\n`);
}

main().catch((cause: unknown) => {
  const error = startFailure(cause);
  log('relay.failed', { code: error.code, detail: error.message });
  process.exit(EXIT_CODES[error.fault]);
});
