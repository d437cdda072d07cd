import { join } from 'node:path';
import { alternate, median } from './measure.ts';
import type { Row } from './row.ts';
import { openSystem, post, root, startBare } from './system.ts';

const project = join(root, 'bench/trivial-function');

/** What the whole stack adds to a function that does nothing, against bare Hono with the same function. */
export async function trivial(): Promise<Row[]> {
  await using bench = await openSystem();
  await bench.cfn('deploy', project);
  const bare = await startBare(project);
  try {
    const body = new Uint8Array(1024);
    const call = (url: string) => async (): Promise<void> => void (await post(url, body));
    const { a, b } = await alternate(call(`${bench.system.gatewayUrl}/f/demo/trivial/`), call(bare.ready.url), { rounds: 5, count: 200, concurrency: 1 });
    const added = a.map(({ p50 }, i) => p50 - (b[i]?.p50 ?? Number.NaN));
    return [
      {
        row: 'trivial function, added at p50, open mode',
        unit: 'ms',
        ours: median(a.map(({ p50 }) => p50)),
        reference: median(b.map(({ p50 }) => p50)),
        ratio: median(added),
        spread: [Math.min(...added), Math.max(...added)],
        goal: 'adds ≤ 2 ms (the ratio column holds the difference)',
        met: median(added) <= 2,
      },
    ];
  } finally {
    await bare.stop();
  }
}
