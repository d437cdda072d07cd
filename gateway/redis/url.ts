import { readFile, stat } from 'node:fs/promises';
import { CfnError } from '../../proto/index.ts';

/**
 * The URL of the shared Redis, from a file that its owner alone can read, or from the environment: never from the command line, which
 * every user of a machine sees.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID`, without a word of the URL
 */
export async function redisUrl(
  file: string | undefined,
  fromEnvironment: string | undefined,
): Promise<string | undefined> {
  if (file === undefined) return fromEnvironment === undefined ? undefined : checked(fromEnvironment);
  const found = await stat(file).catch(() => undefined);
  if (found === undefined) throw new CfnError('CFN_INPUT_INVALID', `there is no file ${file}`);
  if ((found.mode & 0o077) !== 0)
    throw new CfnError(
      'CFN_INPUT_INVALID',
      `${file} has mode ${(found.mode & 0o777).toString(8)}, expected 600: it holds a password`,
    );
  return checked(await readFile(file, 'utf8'));
}

function checked(text: string): string {
  const url = text.trim();
  const { protocol } = URL.canParse(url) ? new URL(url) : { protocol: '' };
  if (protocol !== 'redis:' && protocol !== 'rediss:')
    throw new CfnError('CFN_INPUT_INVALID', 'the URL of Redis is none of redis://… or rediss://…');
  return url;
}
