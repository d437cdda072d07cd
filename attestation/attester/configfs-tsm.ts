import { setTimeout as sleepMs } from 'node:timers/promises';
import { CfnError } from '../../proto/index.ts';
import { Refusal, refuse } from '../evidence/reasons.ts';
import { errorCode, kernelFiles, type KernelFiles } from './files.ts';
import { oneAtATime } from './one-at-a-time.ts';
import { readProvider, requestReport, type TsmProvider, type TsmReport, type TsmRequest } from './tsm-entry.ts';
import { leftoverEntries, newEntryName } from './tsm-leftovers.ts';

/** Where Linux offers quotes (kernel documentation, `ABI/testing/configfs-tsm-report`). */
const TSM_REPORT_DIRECTORY = '/sys/kernel/config/tsm/report';
/** Tries while the platform is busy, or others write into our entry. */
const ATTEMPTS = 4;
const BACKOFF_MS = 50;
/** From the call to the quote. One takes 40 ms, and a second on a stock kernel; the TDX driver itself gives up after 30 s. */
const QUOTE_TIMEOUT_MS = 10_000;
/** Callers behind the one whose quote is being made; more could not be served in time. */
const WAITING_MAX = 16;

export interface TsmOptions {
  readonly directory: string;
  readonly files: KernelFiles;
  readonly sleep: (ms: number) => Promise<void>;
  readonly timeoutMs: number;
  readonly waitingMax: number;
  /** Whether a process of this number runs now; entries of those that do not are leftovers. */
  readonly isRunning: (pid: number) => boolean;
}

const defaults: TsmOptions = {
  directory: TSM_REPORT_DIRECTORY,
  files: kernelFiles,
  sleep: (ms) => sleepMs(ms),
  timeoutMs: QUOTE_TIMEOUT_MS,
  waitingMax: WAITING_MAX,
  isRunning: (pid) => {
    try {
      return process.kill(pid, 0);
    } catch (error) {
      return errorCode(error) !== 'ESRCH';
    }
  },
};

/** The quoting interface of this VM. All requests of a process go through one, because the platform answers one at a time. */
export interface TsmReporter {
  /** @throws {Refusal} `collect/no-tee` */
  provider(): Promise<TsmProvider>;
  /**
   * @throws {Refusal} `collect/no-tee`, `collect/wrong-tee`; `collect/busy`, `collect/contended`, `collect/timeout`,
   *   `collect/queue-full` (try again later); `collect/quote-empty`, `collect/quote-too-large`, `collect/quote-failed`;
   *   `collect/privilege-level`
   */
  report(request: TsmRequest): Promise<TsmReport>;
  /** Removes entries that a crashed process left behind: a little kernel memory each. Returns how many. */
  removeLeftovers(): Promise<number>;
}

export function tsmReporter(overrides: Partial<TsmOptions> = {}): TsmReporter {
  const options: TsmOptions = { ...defaults, ...overrides };
  const { directory, files, timeoutMs, waitingMax } = options;
  const inTurn = oneAtATime({ waitingMax, timeoutMs, what: 'quote', timeoutReason: 'collect/timeout' });
  const withEntry = <T>(work: (entry: string) => Promise<T>): Promise<T> =>
    inTurn((signal) => retried(options, signal, () => inEntry(options, work)));
  return {
    provider: () => withEntry((entry) => readProvider(entry, files)),
    async report(request) {
      if (request.reportData.length !== 64)
        throw new CfnError('CFN_INPUT_INVALID', `report data has ${request.reportData.length} bytes, expected 64`);
      return withEntry((entry) => requestReport(entry, request, files));
    },
    async removeLeftovers() {
      const entries = await leftoverEntries(directory, options);
      const removed = await Promise.allSettled(entries.map((entry) => files.remove(entry)));
      return removed.filter(({ status }) => status === 'fulfilled').length;
    },
  };
}

/** A fresh entry for one request; it is removed however the request ends. */
async function inEntry<T>({ directory, files }: TsmOptions, work: (entry: string) => Promise<T>): Promise<T> {
  const entry = `${directory}/${newEntryName()}`;
  await files.make(entry);
  try {
    return await work(entry);
  } finally {
    await files.remove(entry).catch(() => undefined); // a leftover must not hide what happened
  }
}

async function retried<T>(options: TsmOptions, signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (let attempts = 1; ; attempts++) {
    try {
      return await attempt();
    } catch (cause) {
      const refusal = asRefusal(cause, options.directory);
      const again = refusal.reason === 'collect/busy' || refusal.reason === 'collect/contended';
      if (!again || attempts === ATTEMPTS || signal.aborted) throw refusal;
      await options.sleep(BACKOFF_MS * attempts);
    }
  }
}

/** What an errno of these files means (`drivers/virt/coco`: guest/report.c, tdx-guest.c, sev-guest.c). */
function asRefusal(cause: unknown, directory: string): Refusal {
  if (cause instanceof Refusal) return cause;
  if (cause instanceof CfnError) throw cause;
  const errno = errorCode(cause);
  switch (errno) {
    case 'EBUSY': // the request before ours timed out, and the host still owns its buffer
    case 'EINTR':
    case 'EAGAIN':
    case 'ETIMEDOUT':
      return new Refusal('collect/busy', `the platform is busy (${errno})`, { cause });
    case 'ENOENT': // no configfs, or no TSM in it
    case 'ENOTDIR':
    case 'ENXIO': // TSM without a provider
    case 'ENOTTY': // the provider's module was unloaded
    case 'ENODEV':
      return new Refusal('collect/no-tee', `${directory} gives no reports (${errno})`, { cause });
    case 'EFBIG':
      return new Refusal('collect/quote-too-large', 'the quote is larger than the kernel passes on', { cause });
    default:
      return new Refusal('collect/quote-failed', `no quote (${errno ?? String(cause)})`, { cause });
  }
}

/** Refuses a quote over other report data: then what came back is not the answer to our request. */
export function requireOurReportData(found: Uint8Array, expected: Uint8Array): void {
  // Public bytes on both sides.
  if (found.length !== expected.length || found.some((byte, index) => byte !== expected[index]))
    refuse('collect/quote-of-another', 'the quote carries other report data than was asked for');
}
