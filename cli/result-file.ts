import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { CfnError } from '../proto/index.ts';

/**
 * Writes what a command was asked to keep, over what is there.
 *
 * @throws {CfnError} `CFN_USAGE` with the reason, where it cannot be written
 */
export async function writeResultFile(
  { cwd, file }: { readonly cwd: string; readonly file: string },
  content: string,
  { mode = 0o666 } = {},
): Promise<void> {
  try {
    await writeFile(resolve(cwd, file), content, { mode });
  } catch (cause) {
    throw new CfnError('CFN_USAGE', `cannot write ${file}: ${(cause as NodeJS.ErrnoException).code ?? ''}`, { cause });
  }
}
