import { closeSync, constants, copyFileSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { CfnError } from '../proto/index.ts';
import { openDatabase } from './database.ts';
import { openKeyring } from './open-keyring.ts';
import type { RootKey, RootKeyDeps } from './root-key.ts';

/**
 * Copies a keyring to a new file, also while a KMS uses it: the copy is of one moment. What is secret in it is wrapped under the root
 * key, which is not in it.
 *
 * @throws {CfnError} `CFN_STORE_FAILED` when there is no keyring, or the copy cannot be written; `CFN_CONFLICT` when the file exists
 */
export function backUp(keyringFile: string, to: string): void {
  if (!existsSync(keyringFile)) throw new CfnError('CFN_STORE_FAILED', `there is no keyring ${keyringFile}`);
  if (existsSync(to)) throw new CfnError('CFN_CONFLICT', `${to} exists`);
  const database = openDatabase(keyringFile);
  const part = `${to}.part`;
  try {
    rmSync(part, { force: true }); // of an attempt that was killed
    database.copyTo(part);
  } finally {
    database.close();
  }
  putInPlace(part, to);
}

/**
 * Makes a keyring from a backup. Every lease ends, as grants and revocations since the backup are not known; each audit log says so.
 *
 * @param rootKey as in {@link openKeyring}
 * @returns how many leases were ended
 * @throws {CfnError} `CFN_CONFLICT` where a keyring exists; `CFN_STORE_FAILED`; `CFN_KEYRING_ALTERED` when it does not open under this
 *   root key; `CFN_AUDIT_ALTERED`. Nothing is in place then.
 */
export async function restore(
  from: string,
  keyringFile: string,
  rootKey: string | RootKey,
  deps: Omit<RootKeyDeps, 'mayMake'> & { readonly now: () => Date },
): Promise<number> {
  if (existsSync(keyringFile))
    throw new CfnError('CFN_CONFLICT', `${keyringFile} exists; restore into an empty folder`);
  if (!existsSync(from)) throw new CfnError('CFN_STORE_FAILED', `there is no backup ${from}`);
  const part = `${keyringFile}.part`;
  const remove = (): void => {
    for (const end of ['', '-wal', '-shm']) rmSync(`${part}${end}`, { force: true });
  };
  remove();
  try {
    copyFileSync(from, part);
    const { store, rootKey: root } = await openKeyring(part, rootKey, { ...deps, restoring: true });
    let ended: number;
    try {
      ended = await store.endAllLeases(deps.now().getTime());
    } finally {
      store.close(); // the last connection writes the log into the file
      await root.close();
    }
    putInPlace(part, keyringFile);
    return ended;
  } catch (cause) {
    remove();
    if (cause instanceof CfnError) throw cause;
    throw new CfnError('CFN_STORE_FAILED', `cannot restore to ${keyringFile}`, { cause });
  }
}

/** On the disk before it has its name, and its name on the disk before this returns. */
function putInPlace(part: string, to: string): void {
  sync(part);
  renameSync(part, to);
  sync(dirname(to));
}

function sync(path: string): void {
  const file = openSync(path, constants.O_RDONLY);
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}
