import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { processTree } from '../deploy/index.ts';
import { median, quantile } from './measure.ts';
import type { Row } from './row.ts';
import { deployOcr, openSystem, post, root } from './system.ts';

const ROUNDS = 20;
const WARM_UP = 8;
/** The worker has wiped by then, and made the next isolate. */
const SETTLE_MS = 300;

/**
 * What the worker's processes do after an OCR call's answer, over what they do when idle, against what they do for the call: CPU time.
 * It is the wipe after the answer (pages, stacks, isolates made meanwhile) and the making of the next isolate, which is no part of it.
 */
export async function wipe(): Promise<Row[]> {
  await using bench = await openSystem();
  await deployOcr(bench);
  const photo = new Uint8Array(readFileSync(join(root, 'test/fixtures/inputs/en-01.jpg')));
  const call = (): Promise<string> => post(`${bench.system.gatewayUrl}/f/demo/ocr/`, photo);
  for (let i = 0; i < WARM_UP; i++) await call();
  await sleep(1_000);
  const shares: number[] = [];
  const afterMs: number[] = [];
  const callMs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const cpuMs = (): number => cpuOf(processTree(bench.system.worker().pid));
    const began = cpuMs();
    await call();
    const answered = cpuMs();
    await sleep(SETTLE_MS);
    const settled = cpuMs();
    await sleep(SETTLE_MS);
    const after = Math.max(0, settled - answered - (cpuMs() - settled));
    afterMs.push(after);
    callMs.push(answered - began);
    shares.push((after / (answered - began)) * 100);
  }
  return [
    {
      row: 'after an OCR answer: wipe and next isolate, CPU time of the worker',
      unit: 'ms',
      ours: median(afterMs),
      reference: median(callMs),
      spread: [Math.min(...afterMs), quantile(afterMs, 0.9)],
      goal: 'none here',
      met: true,
    },
    {
      row: '  as a share of the OCR call',
      unit: '%',
      ours: median(shares),
      spread: [Math.min(...shares), quantile(shares, 0.9)],
      goal: '≤ 5 %',
      met: median(shares) <= 5,
    },
  ];
}

/** CPU time that the threads of these processes have used, in ms (proc(5), schedstat). */
function cpuOf(pids: readonly number[]): number {
  let ns = 0;
  for (const pid of pids) {
    try {
      for (const task of readdirSync(`/proc/${pid}/task`))
        ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
    } catch {
      continue; // it ended meanwhile
    }
  }
  return ns / 1e6;
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
