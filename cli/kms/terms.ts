import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { CfnError, referenceSchema, type Reference } from '../../proto/index.ts';
import type { Cli } from '../context.ts';

const DAYS = 30;

/** What an owner demands of a worker, on the command line. */
export interface TermOptions {
  readonly tee?: readonly string[];
  readonly gpu?: readonly string[];
  readonly reference?: string;
  readonly until?: string;
}

export function termOptions(command: Command): Command {
  return command
    .option('--tee <kind...>', 'TEE kinds of the worker: tdx, snp')
    .option(
      '--gpu <name...>',
      'GPUs of the worker, each: hopper (h100, h200) or blackwell (b100, b200); evidence tells no more apart',
    )
    .option(
      '--reference <file>',
      'measurements of the images that you take, JSON: lists by mrtd, rtmr0 to rtmr3, measurement',
    )
    .option('--until <time>', `the end, RFC 3339 (default: in ${DAYS} days)`);
}

/** @throws {CfnError} `CFN_USAGE` */
export async function readTerms({ tee, gpu, reference, until }: TermOptions, cli: Cli): Promise<object> {
  return {
    ...(tee === undefined ? {} : { tee }),
    ...(gpu === undefined ? {} : { gpu: gpu.map(architectureOf) }),
    ...(reference === undefined ? {} : { reference: await readReference(reference, cli) }),
    until: untilOf(until, cli.context.now()),
  };
}

const ARCHITECTURES: Readonly<Record<string, string>> = {
  hopper: 'HOPPER',
  h100: 'HOPPER',
  h200: 'HOPPER',
  blackwell: 'BLACKWELL',
  b100: 'BLACKWELL',
  b200: 'BLACKWELL',
};
function architectureOf(name: string): string {
  const architecture = ARCHITECTURES[name.toLowerCase()];
  if (architecture === undefined) throw new CfnError('CFN_USAGE', `--gpu: expected hopper or blackwell, have ${name}`);
  return architecture;
}

async function readReference(file: string, { context }: Cli): Promise<Reference> {
  try {
    return referenceSchema.parse(JSON.parse(await readFile(resolve(context.cwd, file), 'utf8')));
  } catch (cause) {
    throw new CfnError('CFN_USAGE', `--reference: ${file} holds no reference values`, { cause });
  }
}

function untilOf(until: string | undefined, now: Date): string {
  if (until === undefined) return new Date(now.getTime() + DAYS * 86_400_000).toISOString();
  const time = new Date(until);
  if (Number.isNaN(time.getTime()))
    throw new CfnError('CFN_USAGE', `--until: expected a time such as 2027-01-31T00:00:00Z, have ${until}`);
  if (time.getTime() <= now.getTime()) throw new CfnError('CFN_USAGE', `--until: ${time.toISOString()} is past`);
  return time.toISOString();
}
