import { join } from 'node:path';
import { median, quantile } from './measure.ts';
import type { Row } from './row.ts';
import { openSystem, root } from './system.ts';

const ROUNDS = 20;
const WARM_UP = 3;
const POLL_MS = 2;
/** The invocation runs for so long before its caller goes. */
const STAY_MS = 100;

/**
 * From the moment that a caller goes, in the middle of an answer, until its receipt is at the gateway: by then the invocation was
 * aborted, its isolate disposed of, and its buffers overwritten. The receipt is asked for every 2 ms, which is part of the figure.
 */
export async function abort(): Promise<Row[]> {
  await using bench = await openSystem();
  const { gatewayUrl } = bench.system;
  await bench.cfn('deploy', join(root, 'bench/endless-function'));
  const times: number[] = [];
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    const leaving = new AbortController();
    const answer = await fetch(`${gatewayUrl}/f/demo/endless/`, { method: 'POST', signal: leaving.signal });
    const receipt = `${gatewayUrl}/.well-known/cfn/receipts/${answer.headers.get('cfn-request-id')}`;
    await answer.body?.getReader().read();
    await sleep(STAY_MS);
    const began = performance.now();
    leaving.abort();
    while ((await fetch(receipt)).status !== 200) await sleep(POLL_MS);
    if (round >= 0) times.push(performance.now() - began);
  }
  return [
    {
      row: 'caller gone to invocation aborted, wiped and its receipt written',
      unit: 'ms',
      ours: median(times),
      spread: [Math.min(...times), quantile(times, 0.99)],
      goal: '≤ 100 ms',
      met: median(times) <= 100,
    },
  ];
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
