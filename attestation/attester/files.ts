import { constants } from 'node:fs';
import { mkdir, open, readdir, rmdir } from 'node:fs/promises';
import { CfnError } from '../../proto/index.ts';

/** The file operations of the kernel's attestation interfaces; tests put a test double's directory behind them. */
export interface KernelFiles {
  list(directory: string): Promise<readonly string[]>;
  make(entry: string): Promise<void>;
  /** Exactly one write(2): the kernel takes each as one request. */
  write(file: string, bytes: Uint8Array): Promise<void>;
  /** The whole file, `undefined` when it is larger than the limit. */
  read(file: string, bytesMax: number): Promise<Uint8Array | undefined>;
  remove(entry: string): Promise<void>;
}

export const kernelFiles: KernelFiles = {
  list: (directory) => readdir(directory),
  make: (entry) => mkdir(entry),
  write: writeOnce,
  read: readBounded,
  remove: (entry) => rmdir(entry),
};

/** Node may resume a short write by itself elsewhere; here a short write is an error. The file is closed before this returns, as configfs takes binary attributes on close. */
async function writeOnce(file: string, bytes: Uint8Array): Promise<void> {
  await using handle = await open(file, constants.O_WRONLY);
  const { bytesWritten } = await handle.write(bytes);
  if (bytesWritten !== bytes.length)
    throw new CfnError('CFN_QUOTE_UNAVAILABLE', `wrote ${bytesWritten} of ${bytes.length} bytes`);
}

/** The size that such files claim is 0 or a page; only reading to the end tells. */
async function readBounded(file: string, bytesMax: number): Promise<Uint8Array | undefined> {
  await using handle = await open(file, constants.O_RDONLY);
  const buffer = new Uint8Array(bytesMax + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await handle.read(buffer, length, buffer.length - length);
    if (bytesRead === 0) return buffer.slice(0, length);
    length += bytesRead;
    if (length > bytesMax) return undefined;
  }
}

/** The errno name of a failed system call, such as `EBUSY`. */
export function errorCode(cause: unknown): string | undefined {
  if (cause instanceof CfnError) return undefined; // its code is ours
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : undefined;
}
