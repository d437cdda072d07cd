import { readdir, readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { CfnError, frame, sha384, utf8 } from '../../proto/index.ts';

const SOURCE = /\.(?:ts|js|mjs|cjs|json|proto|toml)$/;
const SKIPPED = /^\.|^node_modules$|\.test\.ts$/;

/**
 * A stand-in for MRTD: SHA-384 (48 bytes) over the source files below some folders, by path and content. Tests, hidden files and
 * `node_modules` do not count. Paths begin with the folder's own name, so that a checkout measures the same anywhere.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` for a folder that is missing, empty of sources, or holds a symbolic link.
 */
export async function measureFolders(directories: readonly string[]): Promise<Uint8Array<ArrayBuffer>> {
  const files: { name: string; path: string }[] = [];
  for (const directory of directories) files.push(...(await sources(resolve(directory), basename(resolve(directory)))));
  if (files.length === 0) throw new CfnError('CFN_INPUT_INVALID', 'there are no source files to measure');
  files.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  const parts: Uint8Array[] = [];
  for (const { name, path } of files) parts.push(utf8(name), await readFile(path));
  return sha384(frame('cfn/simulated-mrtd/v1', ...parts));
}

async function sources(directory: string, name: string): Promise<{ name: string; path: string }[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch((cause: unknown) => {
    throw new CfnError('CFN_INPUT_INVALID', `cannot read the folder ${name}`, { cause });
  });
  const found: { name: string; path: string }[] = [];
  for (const entry of entries) {
    if (SKIPPED.test(entry.name)) continue;
    const child = { name: `${name}/${entry.name}`, path: join(directory, entry.name) };
    // A link could lead to what is not measured.
    if (entry.isSymbolicLink()) throw new CfnError('CFN_INPUT_INVALID', `${child.name} is a symbolic link`);
    if (entry.isDirectory()) found.push(...(await sources(child.path, child.name)));
    else if (entry.isFile() && SOURCE.test(entry.name)) found.push(child);
  }
  return found;
}
