import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { median } from './measure.ts';
import type { Row } from './row.ts';
import { deployOcr, openSystem, post, root } from './system.ts';

/** From starting a worker process to its first OCR answer: start, admission, two keys, two models, sandbox, one image. */
export async function start(): Promise<Row[]> {
  await using bench = await openSystem();
  await deployOcr(bench);
  const photo = new Uint8Array(readFileSync(join(root, 'test/fixtures/inputs/en-01.jpg')));
  const url = `${bench.system.gatewayUrl}/f/demo/ocr/`;
  await post(url, photo);
  const times: number[] = [];
  for (let round = 0; round < 5; round++) {
    const { workerId } = bench.system.worker().ready;
    await bench.system.worker().stop();
    await fetch(`${bench.system.gatewayUrl}/v1/workers/${workerId}`, {
      method: 'DELETE',
      headers: { authorization: `Bearer ${bench.system.operatorToken}` },
    });
    const began = performance.now();
    await bench.system.startWorker();
    await post(url, photo);
    times.push((performance.now() - began) / 1000);
  }
  const seconds = median(times);
  return [
    {
      row: 'worker start to first OCR answer',
      unit: 's',
      ours: seconds,
      spread: [Math.min(...times), Math.max(...times)],
      goal: '≤ 3 s',
      met: seconds <= 3,
    },
  ];
}
