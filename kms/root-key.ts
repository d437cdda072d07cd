import { createSecretKey, type KeyObject } from 'node:crypto';
import { CfnError } from '../proto/index.ts';
import { makeSecretFile, readSecretFile } from './secret-file.ts';

const ROOT_KEY_BYTES = 32;

/**
 * Opens the root key: a file of 32 bytes, under which everything secret in the keyring is wrapped.
 *
 * @param options.keyringExists whether a keyring is there already; then a missing root key is an error, because a new one
 *   would open nothing
 * @throws {CfnError} `CFN_SECRET_EXPOSED` when others can read the file; `CFN_STORE_FAILED` when it is missing beside a keyring,
 *   or has another length
 */
export function openRootKey(
  path: string,
  options: { readonly keyringExists: boolean; readonly randomBytes: (length: number) => Uint8Array },
): KeyObject {
  let bytes = readSecretFile(path, ROOT_KEY_BYTES);
  if (bytes === undefined) {
    if (options.keyringExists)
      throw new CfnError('CFN_STORE_FAILED', `${path} is missing, but a keyring exists; restore it from its backup`);
    bytes = Buffer.from(options.randomBytes(ROOT_KEY_BYTES));
    makeSecretFile(path, bytes);
  }
  if (bytes.length !== ROOT_KEY_BYTES)
    throw new CfnError('CFN_STORE_FAILED', `${path} has ${bytes.length} bytes, expected ${ROOT_KEY_BYTES}`);
  const key = createSecretKey(bytes); // prints as [KeyObject], never as its bytes
  bytes.fill(0);
  return key;
}
