import { closeSync, constants, fstatSync, fsyncSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { CfnError } from '../proto/index.ts';

/**
 * Reads a file that only its owner may read or write.
 *
 * @returns its bytes, or `undefined` when there is no such file
 * @throws {CfnError} `CFN_SECRET_EXPOSED` when the mode is wider than 0600, another user owns it, or it is no regular file;
 *   `CFN_STORE_FAILED` when it is over `bytesMax` or cannot be read
 */
export function readSecretFile(path: string, bytesMax: number): Buffer | undefined {
  let file: number;
  try {
    // A symbolic link would let whoever can write to the folder choose the file.
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    if (code === 'ELOOP') throw new CfnError('CFN_SECRET_EXPOSED', `${path} is a symbolic link`, { cause });
    throw new CfnError('CFN_STORE_FAILED', `cannot open ${path}: ${String(code)}`, { cause });
  }
  try {
    const stat = fstatSync(file); // of the open file: the path may name another one by now
    if (!stat.isFile()) throw new CfnError('CFN_SECRET_EXPOSED', `${path} is not a regular file`);
    const mode = stat.mode & 0o7777;
    if ((mode & ~0o600) !== 0)
      throw new CfnError('CFN_SECRET_EXPOSED', `${path} has mode 0${mode.toString(8)}, expected 0600`);
    if (stat.uid !== process.getuid?.())
      throw new CfnError('CFN_SECRET_EXPOSED', `${path} belongs to user ${stat.uid}`);
    if (stat.size > bytesMax)
      throw new CfnError('CFN_STORE_FAILED', `${path} has ${stat.size} bytes, expected at most ${bytesMax}`);
    const bytes = Buffer.alloc(stat.size);
    const read = readSync(file, bytes, 0, bytes.length, 0);
    if (read !== bytes.length) throw new CfnError('CFN_STORE_FAILED', `${path} was cut while it was read`);
    return bytes;
  } finally {
    closeSync(file);
  }
}

/**
 * Makes a secret file with mode 0600; it is on the disk when this returns.
 *
 * @throws {CfnError} `CFN_STORE_FAILED` when the file exists already or cannot be written
 */
export function makeSecretFile(path: string, bytes: Uint8Array): void {
  storing(path, () => {
    writeNew(path, bytes);
    syncFolder(path);
  });
}

/**
 * Puts new content in the place of a secret file at once: whatever happens, the old or the new one is there.
 *
 * @throws {CfnError} `CFN_STORE_FAILED`
 */
export function replaceSecretFile(path: string, bytes: Uint8Array): void {
  const next = `${path}.new`;
  storing(path, () => {
    rmSync(next, { force: true }); // of an attempt that was killed
    writeNew(next, bytes);
    renameSync(next, path);
    syncFolder(path);
  });
}

function writeNew(path: string, bytes: Uint8Array): void {
  const file = openSync(path, constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY, 0o600);
  try {
    let at = 0;
    while (at < bytes.length) at += writeSync(file, bytes, at);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** The name, too, must outlive a power cut. */
function syncFolder(path: string): void {
  const folder = openSync(dirname(path), constants.O_RDONLY);
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

function storing(path: string, work: () => void): void {
  try {
    work();
  } catch (cause) {
    throw new CfnError('CFN_STORE_FAILED', `cannot make ${path}: ${String((cause as NodeJS.ErrnoException).code)}`, {
      cause,
    });
  }
}
