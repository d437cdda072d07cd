import { randomBytes } from 'node:crypto';
import { writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { parseWorkerPolicy } from '../attestation/verifier/index.ts';
import { ADMISSION_LEASE_MS, CfnError, EXIT_CODES } from '../proto/index.ts';
import { LEASE_SECONDS } from './limits.ts';
import { readBoundedFile, readPolicyFile, startFailure } from '../proto/node.ts';
import { ISSUERS_FILE_BYTES_MAX, parseIssuersFile } from './access/issuers.ts';
import type { Log } from './log.ts';
import { redisUrl } from './redis/url.ts';
import { startGateway } from './service.ts';
import type { TracingOptions } from './tracing.ts';

// The gateway as a process. One JSON line on standard output when it is ready, its log as JSON lines on standard error.

const now = (): Date => new Date();
const log: Log = (event, fields) =>
  void writeSync(2, `${JSON.stringify({ at: now().toISOString(), event, ...fields })}\n`);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      state: { type: 'string' },
      listen: { type: 'string', default: '127.0.0.1:8787' },
      admin: { type: 'string', default: '127.0.0.1:0' },
      policy: { type: 'string' },
      worker: { type: 'string', multiple: true, default: [] },
      admit: { type: 'string', default: 'all' },
      'redis-url-file': { type: 'string' },
      lease: { type: 'string', default: `${ADMISSION_LEASE_MS / 1000}` },
      issuers: { type: 'string' },
      'trace-url': { type: 'string' },
      'trace-ratio': { type: 'string', default: '0.01' },
    },
  });
  const { state, policy } = values;
  if (state === undefined || policy === undefined)
    throw new CfnError('CFN_USAGE', 'expected --state DIR and --policy FILE');
  const { admit } = values;
  if (admit !== 'all' && admit !== 'listed')
    throw new CfnError('CFN_USAGE', `--admit is ${admit}, expected all or listed`);
  const leaseSeconds = Number(values.lease);
  if (!(leaseSeconds >= LEASE_SECONDS.min && leaseSeconds <= LEASE_SECONDS.max))
    throw new CfnError(
      'CFN_USAGE',
      `--lease is ${values.lease}, expected ${LEASE_SECONDS.min} to ${LEASE_SECONDS.max} seconds`,
    );
  const traces = tracesOf(values['trace-url'], values['trace-ratio']);
  const gateway = await startGateway({
    stateFolder: state,
    listen: values.listen,
    admin: values.admin,
    policy: parseWorkerPolicy(await readPolicyFile(policy)),
    workers: values.worker,
    admit,
    leaseMs: leaseSeconds * 1000,
    ...(values.issuers === undefined
      ? {}
      : { issuers: parseIssuersFile(await readBoundedFile(values.issuers, ISSUERS_FILE_BYTES_MAX)) }),
    traces,
    redisUrl: await redisUrl(values['redis-url-file'], process.env['CFN_REDIS_URL']),
    now,
    monotonicMs: () => performance.now(),
    randomBytes: (length) => new Uint8Array(randomBytes(length)),
    log,
  });
  const stop = (): void => {
    void gateway.stop().then(
      () => process.exit(0),
      () => process.exit(EXIT_CODES.system),
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  process.stdout.write(`${JSON.stringify({ ready: true, url: gateway.url, admin: gateway.adminUrl })}\n`);
}

main().catch((cause: unknown) => {
  const error = startFailure(cause);
  log('gateway.failed', { code: error.code, detail: error.message });
  process.exit(EXIT_CODES[error.fault]);
});

function tracesOf(url: string | undefined, ratioText: string): TracingOptions | undefined {
  const ratio = Number(ratioText);
  if (!(ratio >= 0 && ratio <= 1)) throw new CfnError('CFN_USAGE', `--trace-ratio is ${ratioText}, expected 0 to 1`);
  if (url === undefined) return undefined;
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? ''))
    throw new CfnError('CFN_USAGE', '--trace-url is no URL of http or https');
  return { url, ratio };
}
