import { readFileSync, writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Attester } from '../../attestation/attester/index.ts';
import { httpBlobStore } from '../../artifacts/index.ts';
import { CfnError, EXIT_CODES, toCfnError } from '../../proto/index.ts';
import { leaseClockMs } from '../lease-clock.ts';
import { demandOverwriteFreed } from './overwrite-freed.ts';
import { jsonLog, startWorker, type JailPolicy } from './start-worker.ts';

const FLAGS = {
  listen: { type: 'string', default: '127.0.0.1:0' },
  'gateway-certificate': { type: 'string' },
  blobs: { type: 'string' },
  'blobs-token-file': { type: 'string' },
  platform: { type: 'string' },
  gpu: { type: 'string' },
  endorsements: { type: 'string' },
  jail: { type: 'string', default: 'available' },
  pccs: { type: 'string' },
  kds: { type: 'string' },
  rim: { type: 'string' },
  ocsp: { type: 'string' },
  'child-stderr': { type: 'boolean', default: false },
} as const;

/** The flags of a worker process. @throws {CfnError} `CFN_USAGE` */
export function workerFlags(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: FLAGS, strict: true }).values;
  } catch (cause) {
    throw new CfnError('CFN_USAGE', (cause as Error).message, { cause });
  }
}

function required(name: keyof typeof FLAGS, value: string | undefined): string {
  if (value === undefined) throw new CfnError('CFN_USAGE', `--${name} is missing`);
  return value;
}

/** @throws {CfnError} `CFN_USAGE` */
function jailPolicy(flag: string): JailPolicy {
  if (flag === 'required' || flag === 'available') return flag;
  throw new CfnError('CFN_USAGE', `--jail is ${flag}: required, or available for the layers that this machine has`);
}

/**
 * The body of every worker's `main`: the flags, then a worker on the given attester until a signal ends it.
 * Prints one line of JSON on standard output when it serves.
 *
 * @param jail whatever the flags say; without it `--jail` decides
 */
export async function runWorker(
  args: readonly string[],
  attesterFor: (flags: ReturnType<typeof workerFlags>) => Promise<Attester>,
  jail?: JailPolicy,
): Promise<void> {
  const now = (): Date => new Date();
  try {
    demandOverwriteFreed();
    const flags = workerFlags(args);
    const worker = await startWorker({
      listen: flags.listen,
      gatewayCertificatePem: readFileSync(required('gateway-certificate', flags['gateway-certificate']), 'utf8'),
      attester: await attesterFor(flags),
      jail: jail ?? jailPolicy(flags.jail),
      blobs: httpBlobStore({
        url: required('blobs', flags.blobs),
        token: readFileSync(required('blobs-token-file', flags['blobs-token-file']), 'utf8').trim(),
        fetch,
      }),
      now,
      monotonicMs: () => performance.now(),
      leaseClockMs,
      fetch,
      childStderr: flags['child-stderr'] ? 'inherit' : 'ignore',
      log: jsonLog(now),
    });
    const stop = (): void => void worker.stop().then(() => process.exit(0));
    process.once('SIGTERM', stop);
    process.once('SIGINT', stop);
    writeSync(
      1,
      `${JSON.stringify({ ready: true, address: worker.address, workerId: worker.workerId, jail: worker.jail })}\n`,
    );
  } catch (cause) {
    const error = toCfnError(cause);
    writeSync(
      2,
      `cfn worker: ${error.code === 'CFN_INTERNAL' ? String((cause as Error).stack) : error.message}\ncfn worker: ${error.code}: ${error.remedy}\n`,
    );
    process.exit(error.code === 'CFN_INTERNAL' ? 1 : EXIT_CODES[error.fault]);
  }
}
