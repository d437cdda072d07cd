import { constants } from 'node:fs';
import { mkdir, open, readFile, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleepMs } from 'node:timers/promises';
import { CfnError } from '../../proto/index.ts';

/** Where Linux offers quotes (kernel documentation, `ABI/testing/configfs-tsm-report`). */
const TSM_REPORT_DIRECTORY = '/sys/kernel/config/tsm/report';
/** Tries while the platform is busy; quotes are serialised per guest, about 40 ms each. */
const ATTEMPTS = 4;
const BACKOFF_MS = 50;
/** A quote takes up to a second on a stock kernel; a quoting daemon that is gone never answers. */
const QUOTE_TIMEOUT_MS = 10_000;

/** The file operations that a report takes; tests put a fake tree behind them. */
export interface TsmFiles {
  exists(directory: string): Promise<boolean>;
  make(entry: string): Promise<void>;
  /** Exactly one `write`: the kernel takes each write as one request. */
  write(file: string, bytes: Uint8Array): Promise<void>;
  read(file: string): Promise<Uint8Array>;
  remove(entry: string): Promise<void>;
}

export interface TsmOptions {
  readonly directory: string;
  readonly files: TsmFiles;
  readonly sleep: (ms: number) => Promise<void>;
  readonly timeoutMs: number;
  /** Name of a fresh entry. */
  readonly entryName: () => string;
}

export const tsmDefaults: TsmOptions = {
  directory: TSM_REPORT_DIRECTORY,
  files: {
    exists: async (directory) => (await stat(directory).catch(() => undefined))?.isDirectory() ?? false,
    make: (entry) => mkdir(entry),
    write: writeOnce,
    read: (file) => readFile(file),
    remove: (entry) => rmdir(entry),
  },
  sleep: (ms) => sleepMs(ms),
  timeoutMs: QUOTE_TIMEOUT_MS,
  entryName: () => `cfn-${crypto.randomUUID()}`,
};

/**
 * One quote over 64 bytes of report data, from the provider named.
 *
 * @throws {CfnError} `CFN_TEE_ABSENT` without configfs-tsm or with another provider; `CFN_QUOTE_UNAVAILABLE` when the platform is
 *   busy for long, does not answer, or answers with nothing.
 */
export async function readTsmReport(
  reportData: Uint8Array,
  provider: string,
  options: TsmOptions,
): Promise<Uint8Array> {
  if (reportData.length !== 64)
    throw new CfnError('CFN_INPUT_INVALID', `report data has ${reportData.length} bytes, expected 64`);
  const { directory, files, sleep } = options;
  if (!(await files.exists(directory))) throw new CfnError('CFN_TEE_ABSENT', `there is no ${directory}`);
  for (let attempt = 1; ; attempt++) {
    try {
      return await withTimeout(requestReport(reportData, provider, options), options.timeoutMs);
    } catch (cause) {
      if (cause instanceof CfnError) throw cause;
      if (!isTransient(cause) || attempt === ATTEMPTS) {
        throw new CfnError(
          'CFN_QUOTE_UNAVAILABLE',
          `no quote after ${attempt} attempts (${errorCode(cause) ?? 'unknown error'})`,
          { cause },
        );
      }
      await sleep(BACKOFF_MS * attempt);
    }
  }
}

async function requestReport(
  reportData: Uint8Array,
  provider: string,
  { directory, files, entryName }: TsmOptions,
): Promise<Uint8Array> {
  const entry = join(directory, entryName());
  await files.make(entry);
  try {
    const offered = text(await files.read(join(entry, 'provider')));
    if (offered !== provider)
      throw new CfnError('CFN_TEE_ABSENT', `the platform offers ${offered}, expected ${provider}`);
    await files.write(join(entry, 'inblob'), reportData);
    const report = await files.read(join(entry, 'outblob'));
    // We wrote once. Anything else means that somebody shares the entry, and the report may hold their data.
    const generation = text(await files.read(join(entry, 'generation')));
    if (generation !== '1')
      throw new CfnError('CFN_QUOTE_UNAVAILABLE', `generation is ${generation} after one write, expected 1`);
    if (report.length === 0) throw new CfnError('CFN_QUOTE_UNAVAILABLE', 'the platform returned an empty quote');
    return report;
  } finally {
    // A stale entry costs a little kernel memory and must not hide what happened.
    await files.remove(entry).catch(() => undefined);
  }
}

async function writeOnce(file: string, bytes: Uint8Array): Promise<void> {
  await using handle = await open(file, constants.O_WRONLY);
  const { bytesWritten } = await handle.write(bytes);
  if (bytesWritten !== bytes.length)
    throw new CfnError('CFN_QUOTE_UNAVAILABLE', `wrote ${bytesWritten} of ${bytes.length} bytes`);
}

/** A read that hangs in the kernel cannot be cancelled; the caller goes on without it. */
async function withTimeout<T>(work: Promise<T>, timeoutMs: number): Promise<T> {
  const timer = new AbortController();
  const timeout = sleepMs(timeoutMs, undefined, { signal: timer.signal }).then(
    () => {
      throw new CfnError('CFN_QUOTE_UNAVAILABLE', `no quote within ${timeoutMs} ms`);
    },
    () => work,
  );
  try {
    return await Promise.race([work, timeout]);
  } finally {
    timer.abort();
    timeout.catch(() => undefined);
    work.catch(() => undefined);
  }
}

function isTransient(cause: unknown): boolean {
  return ['EBUSY', 'EINTR', 'ETIMEDOUT'].includes(errorCode(cause) ?? '');
}

function errorCode(cause: unknown): string | undefined {
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).trim();
}
