import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { processTree } from '../deploy/index.ts';
import type { Row } from './row.ts';
import { openSystem, root } from './system.ts';

const MiB = 1024 * 1024;
const BYTES = 1024 * MiB;
const PIECE = new Uint8Array(64 * 1024).fill(7);
const SAMPLE_MS = 20;

/** 1 GiB in and out through a TransformStream: how fast, and what each process takes for it over what a small body takes. */
export async function stream(): Promise<Row[]> {
  await using bench = await openSystem();
  await bench.cfn('deploy', join(root, 'bench/stream-function'));
  const { system } = bench;
  const echo = async (bytes: number): Promise<void> => {
    let [sent, received] = [0, 0];
    const body = new ReadableStream({
      pull(controller) {
        controller.enqueue(PIECE.slice());
        if ((sent += PIECE.length) >= bytes) controller.close();
      },
    });
    const init = { method: 'POST', body, duplex: 'half' } as RequestInit;
    const answer = await fetch(`${system.gatewayUrl}/f/demo/stream/`, init);
    for await (const piece of answer.body ?? []) received += piece.length;
    if (received !== bytes) throw new Error(`${received} bytes came back, ${bytes} were sent`);
  };
  await echo(8 * MiB);
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const resident = (): [pid: number, bytes: number][] =>
    [...processTree(system.gateway.pid), ...processTree(system.worker().pid)].map((pid) => [
      pid,
      Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024,
    ]);
  const idle = new Map(resident());
  let most = 0;
  const timer = setInterval(() => {
    for (const [pid, bytes] of resident()) most = Math.max(most, bytes - (idle.get(pid) ?? bytes));
  }, SAMPLE_MS);
  const began = performance.now();
  await echo(BYTES);
  const seconds = (performance.now() - began) / 1000;
  clearInterval(timer);
  return [
    {
      row: '1 GiB in and out, open mode: the most that any process takes over idle',
      unit: 'MiB',
      ours: most / MiB,
      goal: '≤ 64 MiB',
      met: most <= 64 * MiB,
    },
    { row: '  and its speed', unit: 'MiB/s', ours: BYTES / MiB / seconds, goal: 'none here', met: true },
  ];
}
