import { readFileSync, writeSync } from 'node:fs';
import { totalmem } from 'node:os';
import { parseArgs } from 'node:util';
import type { Attester } from '../../attestation/attester/index.ts';
import { httpBlobStore } from '../../artifacts/index.ts';
import { CfnError, EXIT_CODES, parseDuration, toCfnError, WORKER_INFLIGHT_MAX } from '../../proto/index.ts';
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
  capacity: { type: 'string', default: String(WORKER_INFLIGHT_MAX) },
  idle: { type: 'string', default: '10m' },
  'memory-mb': { type: 'string' },
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
function count(name: keyof typeof FLAGS, value: string): number {
  if (/^[1-9]\d{0,8}$/.test(value)) return Number(value);
  throw new CfnError('CFN_USAGE', `--${name} is ${value.slice(0, 50)}, expected a number from 1`);
}

/** The rest is for the agent, and for what the guesses of `memory-needs.ts` leave out. */
const MEMORY_SHARE = 0.8;
const MiB = 1024 * 1024;

/** Of the machine, or of the control group that the worker is in. */
function machineBytes(): number {
  const limit = process.constrainedMemory();
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
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
      capacity: count('capacity', flags.capacity),
      idleMs: parseDuration(flags.idle),
      memoryBytes:
        flags['memory-mb'] === undefined
          ? Math.floor(machineBytes() * MEMORY_SHARE)
          : count('memory-mb', flags['memory-mb']) * MiB,
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
