import { readFile } from 'node:fs/promises';
import { parse } from 'smol-toml';
import { CfnError } from './errors.ts';

/**
 * The value in a policy file, which is JSON when it begins with `{`, and TOML otherwise.
 *
 * @throws {CfnError} `CFN_POLICY_INVALID` when it cannot be read or parsed; the schema is the verifier's to check
 */
export async function readPolicyFile(path: string): Promise<unknown> {
  try {
    const text = await readFile(path, 'utf8');
    return text.trimStart().startsWith('{') ? JSON.parse(text) : parse(text);
  } catch (cause) {
    throw new CfnError('CFN_POLICY_INVALID', `${path} is not readable as JSON or TOML`, { cause });
  }
}
