import { CfnError } from '../proto/index.ts';
import { readSecretFile } from './secret-file.ts';

const CREDENTIAL_BYTES_MAX = 4096;

/**
 * The PIN of an HSM or the token of a transit service, from a file that nobody else may read, or from CFN_ROOT_KEY_CREDENTIAL; never from
 * the command line, which others can read.
 *
 * @throws {CfnError} `CFN_SECRET_EXPOSED`; `CFN_ROOT_KEY_REFUSED` when the file is missing
 */
export function readCredential(
  file: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Buffer | undefined {
  if (file === undefined) {
    const value = env['CFN_ROOT_KEY_CREDENTIAL'];
    return value === undefined || value === '' ? undefined : Buffer.from(value);
  }
  const bytes = readSecretFile(file, CREDENTIAL_BYTES_MAX);
  if (bytes === undefined) throw new CfnError('CFN_ROOT_KEY_REFUSED', `${file} is missing`);
  // Without the line's end that editors leave.
  let end = bytes.length;
  while (end > 0 && (bytes[end - 1] === 10 || bytes[end - 1] === 13)) end--;
  return bytes.subarray(0, end);
}
