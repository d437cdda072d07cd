import { refuse } from '../evidence/reasons.ts';
import { errorCode, kernelFiles, type KernelFiles } from './files.ts';

/** The ACPI table is 56 bytes; later versions may add members. */
const TABLE_BYTES_MAX = 4096;
/** Firmware reserves 64 to 256 KiB and fills the rest with 0xff or zeros. */
const LOG_BYTES_MAX = 1024 * 1024;

export interface CcelFiles {
  readonly table: string;
  readonly log: string;
  readonly files: KernelFiles;
}

const defaults: CcelFiles = {
  table: '/sys/firmware/acpi/tables/CCEL',
  log: '/sys/firmware/acpi/tables/data/CCEL',
  files: kernelFiles,
};

/** The confidential-computing event log (UEFI 2.10 §38), as ACPI shows it. Unsigned: believed only as far as it replays to RTMRs. */
export interface Ccel {
  /** The ACPI table `CCEL`, header included. */
  readonly table: Uint8Array;
  /** The whole log area, padding included. */
  readonly log: Uint8Array;
}

/**
 * Reads the event log; `undefined` when the firmware left none.
 *
 * @throws {Refusal} `collect/event-log-too-large`; `collect/event-log-absent` when there is a table without a log that can be read.
 */
export async function readCcel(overrides: Partial<CcelFiles> = {}): Promise<Ccel | undefined> {
  const { table, log, files } = { ...defaults, ...overrides };
  const tableBytes = await read(table, TABLE_BYTES_MAX, files);
  if (tableBytes === undefined) return undefined;
  const logBytes = await read(log, LOG_BYTES_MAX, files);
  if (logBytes === undefined) return refuse('collect/event-log-absent', `${table} is there, but ${log} is not`);
  return { table: tableBytes, log: logBytes };
}

async function read(file: string, bytesMax: number, files: KernelFiles): Promise<Uint8Array | undefined> {
  try {
    const bytes = await files.read(file, bytesMax);
    return bytes ?? refuse('collect/event-log-too-large', `${file} is over ${bytesMax} bytes`);
  } catch (cause) {
    const errno = errorCode(cause);
    if (errno === 'ENOENT') return undefined;
    if (errno === undefined) throw cause;
    return refuse('collect/event-log-absent', `${file} cannot be read (${errno})`, { cause });
  }
}
