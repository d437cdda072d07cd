import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { fuzz, FuzzFinding, INPUT_MS_MAX } from './fuzz/run.ts';
import type { Parts } from './fuzz/target.ts';
import { targets } from './fuzz/targets.ts';

/**
 * Fuzzes every parser and verifier of evidence: `npm run fuzz -- --seconds N [--target NAME] [--seed S]`. Each target runs in a thread
 * of its own, so that an input that never returns is found, too. A finding ends with 1, and its input is kept in `.cfn/fuzz/`.
 */

interface Job {
  readonly target: string;
  readonly seconds: number;
  readonly seed: number;
}
type Message =
  | { readonly kind: 'input'; readonly parts: Parts }
  | { readonly kind: 'progress'; readonly executions: number }
  | { readonly kind: 'done'; readonly executions: number; readonly ms: number }
  | { readonly kind: 'finding'; readonly message: string; readonly parts: Parts };

const PROGRESS_MS = 10_000;
const HEAP_MIB_MAX = 1024;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      target: { type: 'string' },
      seed: { type: 'string', default: String(crypto.getRandomValues(new Uint32Array(1))[0]) },
      list: { type: 'boolean', default: false },
    },
  });
  const names = targets().map(({ name }) => name);
  const chosen = values.target === undefined ? names : names.filter((name) => name.includes(values.target ?? ''));
  if (values.list || chosen.length === 0) {
    console.log(names.join('\n'));
    process.exitCode = values.list ? 0 : 2;
    return;
  }
  const seed = Number(values.seed);
  const seconds = Number(values.seconds) / chosen.length;
  console.log(`seed ${seed}; ${chosen.length} targets, ${seconds.toFixed(1)} s each`);
  for (const target of chosen) {
    if (!(await runTarget({ target, seconds, seed }))) process.exitCode = 1;
  }
}

/** Gives whether the target stood every input. */
function runTarget(job: Job): Promise<boolean> {
  const worker = new Worker(new URL(import.meta.url), {
    workerData: job,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB_MAX },
  });
  return new Promise((resolve) => {
    let last: Parts = {};
    let hanging: NodeJS.Timeout | undefined;
    const end = (found?: string, parts = last): void => {
      clearTimeout(hanging);
      void worker.terminate();
      if (found !== undefined) console.log(`${job.target.padEnd(24)} FOUND ${found}\n  kept in ${keep(job, parts)}`);
      resolve(found === undefined);
    };
    worker.on('message', (message: Message) => {
      clearTimeout(hanging);
      if (message.kind === 'input') {
        last = message.parts;
        hanging = setTimeout(() => end('an input does not return'), 5 * INPUT_MS_MAX);
      } else if (message.kind === 'progress') {
        console.log(`${job.target.padEnd(24)} … ${message.executions} executions`);
      } else if (message.kind === 'finding') {
        end(message.message, message.parts);
      } else {
        const rate = Math.round(message.executions / (message.ms / 1000));
        console.log(`${job.target.padEnd(24)} ${message.executions} executions, ${rate}/s`);
        end();
      }
    });
    worker.on('error', (error) => end(String(error)));
  });
}

function keep({ target, seed }: Job, parts: Parts): string {
  const folder = join(fileURLToPath(new URL('../.cfn/fuzz', import.meta.url)), `${target}-${seed}`);
  mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of Object.entries(parts)) writeFileSync(join(folder, name), bytes);
  return folder;
}

async function work(job: Job): Promise<void> {
  const say = (message: Message): void => parentPort?.postMessage(message);
  const target = targets().find(({ name }) => name === job.target);
  if (target === undefined) throw new Error(`no target ${job.target}`);
  const start = performance.now();
  let shown = start;
  try {
    const executions = await fuzz(target, {
      seed: job.seed,
      monotonicMs: () => performance.now(),
      onInput: (parts) => say({ kind: 'input', parts }),
      goOn: (count) => {
        const now = performance.now();
        if (now - shown > PROGRESS_MS) {
          shown = now;
          say({ kind: 'progress', executions: count });
        }
        return now - start < job.seconds * 1000;
      },
    });
    say({ kind: 'done', executions, ms: performance.now() - start });
  } catch (error) {
    if (!(error instanceof FuzzFinding)) throw error;
    say({ kind: 'finding', message: error.message, parts: error.parts });
  }
}

if (isMainThread) await main();
else await work(workerData as Job);
