import { createHash } from 'node:crypto';
import { CfnError, equalBytes, toHex, utf8 } from '../../proto/index.ts';
import { Refusal, refuse } from '../evidence/reasons.ts';
import { errorCode, kernelFiles, type KernelFiles } from './files.ts';
import { oneAtATime } from './one-at-a-time.ts';

const DIGEST_BYTES = 48;
/** Linux 6.16 and later (kernel documentation, `ABI/testing/sysfs-devices-virtual-misc-tdx_guest`). */
const MEASUREMENTS = '/sys/devices/virtual/misc/tdx_guest/measurements';
/** Kernels with the patches that came before it, such as Google's Container-Optimized OS. */
const RTMR_ENTRIES = '/sys/kernel/config/tsm/rtmrs';
const INDEX = 3;

export interface RtmrOptions {
  readonly measurements: string;
  readonly rtmrEntries: string;
  readonly files: KernelFiles;
  readonly timeoutMs: number;
}

const defaults: RtmrOptions = {
  measurements: MEASUREMENTS,
  rtmrEntries: RTMR_ENTRIES,
  files: kernelFiles,
  timeoutMs: 10_000,
};

/** The run-time register that firmware and kernel leave to applications. */
export interface Rtmr3 {
  /** 48 bytes. Throws as {@link extend}. */
  read(): Promise<Uint8Array>;
  /**
   * Extends the register with a SHA-384 digest, and reads it back: it then holds SHA-384(old ‖ digest). Returns that.
   *
   * @throws {Refusal} `collect/rtmr-absent` without an interface for it (not TDX, or a kernel that knows only ioctls);
   *   `collect/rtmr-read-only`; `collect/rtmr-mismatch` when it then holds something else, as after an extension by another process
   */
  extend(digest: Uint8Array): Promise<Uint8Array>;
}

/** Opens RTMR3. Extensions of one process are made in turn; among processes only one may extend. */
export function rtmr3(overrides: Partial<RtmrOptions> = {}): Rtmr3 {
  const options = { ...defaults, ...overrides };
  const inTurn = oneAtATime({
    waitingMax: 64,
    timeoutMs: options.timeoutMs,
    what: 'extension of RTMR3',
    timeoutReason: 'collect/timeout',
  });
  return {
    read: () => inTurn(async () => readRegister(await findRegister(options), options)),
    async extend(digest) {
      if (digest.length !== DIGEST_BYTES)
        throw new CfnError('CFN_INPUT_INVALID', `digest has ${digest.length} bytes, expected ${DIGEST_BYTES}`);
      return inTurn(() => extendOnce(digest, options));
    },
  };
}

async function extendOnce(digest: Uint8Array, options: RtmrOptions): Promise<Uint8Array> {
  const register = await findRegister(options);
  const before = await readRegister(register, options);
  await options.files.write(register, digest).catch((cause: unknown) => {
    const errno = errorCode(cause);
    const reason = errno === 'EACCES' || errno === 'EPERM' || errno === 'EROFS' ? 'rtmr-read-only' : 'rtmr-absent';
    throw new Refusal(`collect/${reason}`, `${register} does not take an extension (${errno ?? String(cause)})`, {
      cause,
    });
  });
  const after = await readRegister(register, options);
  const expected = createHash('sha384').update(before).update(digest).digest();
  if (!equalBytes(after, expected))
    refuse('collect/rtmr-mismatch', `RTMR3 holds ${toHex(after)} after the extension, expected ${toHex(expected)}`);
  return after;
}

async function readRegister(register: string, { files }: RtmrOptions): Promise<Uint8Array> {
  const bytes = await files.read(register, DIGEST_BYTES).catch((cause: unknown) => {
    return refuse('collect/rtmr-absent', `${register} cannot be read (${errorCode(cause) ?? String(cause)})`, {
      cause,
    });
  });
  if (bytes?.length !== DIGEST_BYTES)
    return refuse('collect/rtmr-absent', `${register} does not hold ${DIGEST_BYTES} bytes`);
  return bytes;
}

/** The file that holds the register when read, and extends it when written. */
async function findRegister({ measurements, rtmrEntries, files }: RtmrOptions): Promise<string> {
  const name = `rtmr${INDEX}:sha384`;
  if ((await listed(measurements, files))?.includes(name)) return `${measurements}/${name}`;
  const entries = await listed(rtmrEntries, files);
  if (entries === undefined)
    return refuse('collect/rtmr-absent', `neither ${measurements}/${name} nor ${rtmrEntries} is there`);
  return `${await findEntry(rtmrEntries, entries, files)}/digest`;
}

/** The older interface has one entry per register, for the whole VM, and whoever comes first makes it. */
async function findEntry(directory: string, entries: readonly string[], files: KernelFiles): Promise<string> {
  for (const entry of entries) {
    const index = await files.read(`${directory}/${entry}/index`, 16).catch(() => undefined);
    if (index !== undefined && new TextDecoder().decode(index).trim() === String(INDEX)) return `${directory}/${entry}`;
  }
  const entry = `${directory}/rtmr${INDEX}-${crypto.randomUUID()}`;
  try {
    await files.make(entry);
    await files.write(`${entry}/index`, utf8(String(INDEX)));
  } catch (cause) {
    return refuse('collect/rtmr-absent', `${entry} cannot be made (${errorCode(cause) ?? String(cause)})`, { cause });
  }
  return entry;
}

async function listed(directory: string, files: KernelFiles): Promise<readonly string[] | undefined> {
  return files.list(directory).catch(() => undefined);
}
