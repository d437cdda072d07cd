import { parse } from 'smol-toml';
import { readBoundedFile } from './bounded-file.ts';
import { fromUtf8 } from './bytes.ts';
import { CfnError } from './errors.ts';

/** Largest policy, in bytes: a thousand reference values have 100 KiB. */
const POLICY_BYTES_MAX = 1024 * 1024;

/**
 * The value in a policy file, which is JSON when it begins with `{`, and TOML otherwise.
 *
 * @throws {CfnError} `CFN_POLICY_INVALID` when it cannot be read or parsed; the schema is the verifier's to check
 */
export async function readPolicyFile(path: string): Promise<unknown> {
  try {
    const text = fromUtf8(await readBoundedFile(path, POLICY_BYTES_MAX)).replace(/^\uFEFF/, '');
    return text.trimStart().startsWith('{') ? JSON.parse(text) : parse(text);
  } catch (cause) {
    throw new CfnError(
      'CFN_POLICY_INVALID',
      `${path} is not readable as JSON or TOML of at most ${POLICY_BYTES_MAX} bytes`,
      { cause },
    );
  }
}
