import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import ivm from 'isolated-vm';
import { join } from 'node:path';
import { bundleFunction } from '../artifacts/index.ts';
import { startTestSandbox, type TestSandbox } from '../runtime/sandbox/testing.ts';
import { load, median, quantile, type Figures } from './measure.ts';
import { pool } from './pool.ts';
import type { Row } from './row.ts';
import { post, root, startBare } from './system.ts';
import { startWorkerd } from './workerd-server.ts';

const project = join(root, 'bench/trivial-function');
const body = new Uint8Array(1024);
const ROUNDS = 5;
const CALLS = 200;
const CONCURRENCY = 4;
const POOLED = 50;
const COLD_STARTS = 11;

/** Isolates: ready, made at a sustained rate, their memory, and the start of a function version. */
export async function runtime(): Promise<Row[]> {
  const { bundle } = await bundleFunction({ projectDir: project });
  const text = Buffer.from(bundle).toString('utf8');
  return [...(await pool()), ...(await sustained(text, bundle)), await pooledMemory(text), ...(await cold(text))];
}

/** Figures of a load, and how many calls a processor core does in a second of its time. */
type Rate = Figures & { readonly perCoreSecond: number };

/**
 * Calls as fast as they are answered. Ours goes to a sandbox process over its socket, the others over HTTP. On a machine that does other
 * work beside, wall time says little; so does the count against the processor time of the process that was asked.
 */
async function sustained(text: string, bundle: Uint8Array): Promise<Row[]> {
  const sandbox = await startTestSandbox(text, { poolSize: 8, limits: { memoryMb: 128 } });
  await using workerd = await startWorkerd(bundle);
  const hono = await startBare(project);
  try {
    const sides = {
      ours: { pid: sandbox.pid, call: () => answered(sandbox) },
      workerd: { pid: workerd.pid, call: async () => void (await post(workerd.url, body)) },
      hono: { pid: hono.pid, call: async () => void (await post(hono.ready.url, body)) },
    };
    const rates: Record<keyof typeof sides, Rate[]> = { ours: [], workerd: [], hono: [] };
    for (let round = -1; round < ROUNDS; round++)
      for (const name of Object.keys(sides) as (keyof typeof sides)[]) {
        const { pid, call } = sides[name];
        const began = cpuMs(pid);
        const figures = await load(call, CALLS, CONCURRENCY);
        const rate = { ...figures, perCoreSecond: (CALLS * 1000) / (cpuMs(pid) - began) };
        if (round >= 0) rates[name].push(rate); // the first round is not counted
      }
    const compare = (name: string, ours: Rate[], theirs: Rate[], of: (rate: Rate) => number, goal: string): Row => {
      const ratios = ours.map((rate, i) => of(rate) / of(theirs[i] ?? rate));
      return {
        row: name,
        unit: 'per s',
        ours: median(ours.map(of)),
        reference: median(theirs.map(of)),
        ratio: median(ratios),
        spread: [Math.min(...ratios), Math.max(...ratios)],
        goal,
        met: goal === NONE || median(ours.map(of)) >= FRESH_PER_SECOND,
      };
    };
    const perCore = (rate: Rate): number => rate.perCoreSecond;
    const wall = (rate: Rate): number => rate.perSecond;
    return [
      compare(
        'calls in fresh isolates, sustained, per core; workerd’s loader',
        rates.ours,
        rates.workerd,
        perCore,
        `≥ ${FRESH_PER_SECOND}`,
      ),
      floor(),
      compare('  by the clock, 4 at a time', rates.ours, rates.workerd, wall, NONE),
      compare('  bare Hono, one isolate for all, by the clock', rates.ours, rates.hono, wall, NONE),
    ];
  } finally {
    await sandbox.close();
    await hono.stop();
  }
}
const FRESH_PER_SECOND = 600;

/** What V8 and isolated-vm take for an isolate with nothing in it. */
function floor(): Row {
  const one = (): void => {
    const isolate = new ivm.Isolate({ memoryLimit: 128 });
    isolate.createContextSync();
    isolate.dispose();
  };
  for (let i = 0; i < CALLS; i++) one();
  const rates = Array.from({ length: ROUNDS }, () => {
    const began = process.cpuUsage();
    for (let i = 0; i < CALLS; i++) one();
    const { user, system } = process.cpuUsage(began);
    return (CALLS * 1e6) / (user + system);
  });
  const ours = median(rates);
  return {
    row: '  empty isolates, made and disposed of, per core',
    unit: 'per s',
    ours,
    spread: [Math.min(...rates), Math.max(...rates)],
    goal: NONE,
    met: true,
  };
}
const NONE = 'none here';

async function answered(sandbox: TestSandbox): Promise<void> {
  const { status, done } = await sandbox.call({ method: 'POST', body });
  if (status !== 200 || done.code !== undefined) throw new Error(`answered ${status} ${done.code}`);
}

/** Processor time that a process has used, in ms. */
function cpuMs(pid: number): number {
  const [user, system] = statOf(pid);
  return (user + system) * 10; // USER_HZ is 100
}
function statOf(pid: number): [user: number, system: number] {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return [Number(fields[11]), Number(fields[12])];
}

function residentBytes(pid: number): number {
  const pages = Number(readFileSync(`/proc/${pid}/statm`, 'utf8').split(' ')[1]);
  return pages * 4096;
}

/** What a pooled isolate adds to the resident memory: a process with many of them against one with a single one. */
async function pooledMemory(text: string): Promise<Row> {
  const sizes: number[] = [];
  for (const poolSize of [1, 1 + POOLED]) {
    const sandbox = await startTestSandbox(text, { poolSize });
    for (let last = 0, now = -1; last !== now; await new Promise((resolve) => setTimeout(resolve, 1000))) {
      last = now;
      now = residentBytes(sandbox.pid); // until the pool is full
    }
    sizes.push(residentBytes(sandbox.pid));
    await sandbox.close();
  }
  const [one = Number.NaN, many = Number.NaN] = sizes;
  const mib = (many - one) / POOLED / 1024 / 1024;
  return { row: 'memory of a pooled isolate', unit: 'MiB', ours: mib, goal: '≤ 5 MiB', met: mib <= 5 };
}

/** From the start of the process to the first answer: Node, isolated-vm, the snapshot, the bundle, an isolate. */
async function cold(text: string): Promise<Row[]> {
  const times = { spare: [] as number[], none: [] as number[], node: [] as number[] };
  for (let i = 0; i < COLD_STARTS; i++) {
    times.none.push(await firstAnswer(text));
    times.spare.push(await firstAnswer(text, SPARE_MS));
    times.node.push(await emptyNode());
  }
  const row = (name: string, all: readonly number[], goal: string, reference?: readonly number[]): Row => ({
    row: name,
    unit: 'ms',
    ours: median(all),
    spread: [Math.min(...all), quantile(all, 0.99)],
    goal,
    met: goal === NONE || median(all) <= 150,
    ...(reference === undefined
      ? {}
      : { reference: median(reference), added: median(all.map((ms, i) => ms - (reference[i] ?? Number.NaN))) }),
  });
  return [
    row('cold function version, process start to first answer; Node alone', times.none, '≤ 150 ms', times.node),
    row('  in a process made ahead', times.spare, NONE),
  ];
}
/** Long enough for a spare to be done with its snapshot, on a slow machine. */
const SPARE_MS = 1000;

async function firstAnswer(text: string, spareMs?: number): Promise<number> {
  const sandbox = await startTestSandbox(text, { poolSize: 8, ...(spareMs === undefined ? {} : { spareMs }) });
  const began = performance.now();
  await answered(sandbox);
  const ms = sandbox.startMs + performance.now() - began;
  await sandbox.close();
  return ms;
}

async function emptyNode(): Promise<number> {
  const began = performance.now();
  const child = spawn(process.execPath, ['--no-node-snapshot', '-e', '0'], { stdio: 'ignore' });
  await new Promise((resolve) => child.once('exit', resolve));
  return performance.now() - began;
}
