import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { z } from 'zod';
import { CfnError, concatBytes, fromUtf8, SECRET_BYTES_MAX, SECRETS_MAX } from '../proto/index.ts';
import type { Context } from './context.ts';

/** Far more than the KMS takes; a file given by mistake is not read to its end. */
const STDIN_BYTES_MAX = 16 * SECRETS_MAX * SECRET_BYTES_MAX;

/** One value: asked for without echo on a terminal, else what stdin holds, less one newline at its end. Never from the command line. */
export async function readSecretValue(name: string, context: Context): Promise<string> {
  const { promptHidden } = context;
  const value = promptHidden === undefined ? await readStdin(context) : await promptHidden(`value of ${name}: `);
  const trimmed = value.replace(/\r?\n$/, '');
  if (trimmed === '') throw new CfnError('CFN_USAGE', `no value for ${name} came on stdin`);
  return trimmed;
}

/** Values by name, from a file of JSON or `NAME=value` lines; `-` is stdin. @throws {CfnError} `CFN_USAGE`, which names no value */
export async function readSecretFile(file: string, context: Context): Promise<Record<string, string>> {
  return parseSecrets(file === '-' ? await readStdin(context) : await readText(resolve(context.cwd, file)), file);
}

/** What `.dev.vars` of a project holds; nothing where there is none. */
export async function readDevVars(projectDir: string): Promise<Record<string, string>> {
  const file = resolve(projectDir, '.dev.vars');
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return '';
    throw new CfnError('CFN_USAGE', `cannot read ${file}`, { cause: error });
  });
  return parseSecrets(text, '.dev.vars');
}

function parseSecrets(text: string, file: string): Record<string, string> {
  if (!text.trimStart().startsWith('{')) return { ...parseEnv(text) } as Record<string, string>;
  try {
    return z.record(z.string(), z.string()).parse(JSON.parse(text));
  } catch {
    // No cause: what JSON.parse says quotes the text.
    throw new CfnError('CFN_USAGE', `${file} is no JSON object of strings`);
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new CfnError('CFN_USAGE', `cannot read ${path}`, { cause });
  }
}

async function readStdin({ stdin }: Context): Promise<string> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of stdin) {
    bytes += piece.length;
    if (bytes > STDIN_BYTES_MAX) throw new CfnError('CFN_USAGE', `stdin holds over ${STDIN_BYTES_MAX} bytes`);
    pieces.push(piece);
  }
  return fromUtf8(concatBytes(...pieces), 'CFN_USAGE');
}
