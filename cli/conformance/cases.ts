import { readdir } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import { z } from 'zod';
import { CfnError, fromUtf8 } from '../../proto/index.ts';
import { readBoundedFile } from '../../proto/node.ts';

const hex = z.string().regex(/^(?:[0-9a-fA-F]{2})*$/);

/**
 * One case of a `cases.json`: what comes in, at which instant, and what must come out. Members that this version does not know are
 * ignored, so that a newer collection runs.
 */
export const caseSchema = z.object({
  id: z.string().min(1).max(200),
  /** Paths below the folder; `dir/*` takes every file of a folder, in order of name. */
  inputs: z.array(z.string().min(1).max(1000)).min(1).max(256),
  /** RFC 3339; a date alone is its beginning in UTC. */
  now: z.union([z.iso.datetime({ offset: true }), z.iso.date()]),
  /** `reject-by-default`: genuine, refused by the default policy, and accepted by one that allows what it is. */
  expect: z.enum(['accept', 'reject', 'reject-by-default']),
  reason: z.string().nullish(),
  note: z.string().nullish(),
  /** The nonce that the relying party expects; without it, docs/conformance.md says which one is taken. */
  nonce: hex.nullish(),
  /** Values that the claims must show. */
  fields: z.record(z.string(), z.unknown()).nullish(),
  tcbStatus: z.string().nullish(),
  advisoryIDs: z.array(z.string()).nullish(),
});
export type Case = z.infer<typeof caseSchema>;

export interface InputFile {
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** Largest file taken as an input, in bytes: an event log has 256 KiB, and everything else is smaller. */
const INPUT_BYTES_MAX = 16 * 1024 * 1024;
/** Largest `cases.json`, in bytes; a case has 1 KiB. */
const CASES_BYTES_MAX = 16 * 1024 * 1024;

/** A case, or what is wrong with it: one that is broken must not hide the others. */
export type ReadCase = { readonly subject: Case } | { readonly id: string; readonly problem: string };

/** @throws {CfnError} `CFN_INPUT_INVALID` when the folder has no `cases.json` that is a list */
export async function readCases(folder: string): Promise<ReadCase[]> {
  const file = join(folder, 'cases.json');
  let json: unknown;
  try {
    json = JSON.parse(fromUtf8(await readBoundedFile(file, CASES_BYTES_MAX)).replace(/^\uFEFF/, ''));
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', `${file} is not readable as JSON of at most ${CASES_BYTES_MAX} bytes`, {
      cause,
    });
  }
  if (!Array.isArray(json)) throw new CfnError('CFN_INPUT_INVALID', `${file} is no list of cases`);
  return json.map(readCase);
}

function readCase(value: unknown, index: number): ReadCase {
  const parsed = caseSchema.safeParse(value);
  if (parsed.success) return { subject: parsed.data };
  const id = z.object({ id: z.string() }).safeParse(value).data?.id ?? `case ${index}`;
  const [issue] = parsed.error.issues;
  return { id, problem: `not a case: ${issue?.path.join('.') ?? ''}: ${issue?.message ?? 'invalid'}` };
}

/** @throws {CfnError} `CFN_INPUT_INVALID` for a file that is not there, too large, or outside of the folder */
export async function readInputs(folder: string, inputs: readonly string[]): Promise<InputFile[]> {
  const paths = await Promise.all(inputs.map((input) => expand(folder, input)));
  return Promise.all(paths.flat().map((path) => readInput(folder, path)));
}

/** @throws {CfnError} `CFN_INPUT_INVALID` */
export async function readInput(folder: string, path: string): Promise<InputFile> {
  return { path, bytes: await readBoundedFile(resolve(folder, path), INPUT_BYTES_MAX) };
}

async function expand(folder: string, input: string): Promise<string[]> {
  // A case file is data: it names nothing outside of its folder.
  if (relative(folder, resolve(folder, input)).split(sep)[0] === '..')
    throw new CfnError('CFN_INPUT_INVALID', `${input} is outside of the folder`);
  if (!input.endsWith('/*')) return [input];
  const directory = input.slice(0, -2);
  const entries = await readdir(join(folder, directory), { withFileTypes: true }).catch((cause: unknown) => {
    throw new CfnError('CFN_INPUT_INVALID', `${directory} cannot be listed`, { cause });
  });
  return entries
    .filter((entry) => entry.isFile())
    .map(({ name }) => `${directory}/${name}`)
    .sort();
}
