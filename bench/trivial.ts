import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseWorkerPolicy } from '../attestation/verifier/index.ts';
import { confidentialFetch } from '../client/index.ts';
import { nodeHasher, nodeSuite } from '../proto/node.ts';
import { alternate, median } from './measure.ts';
import type { Row } from './row.ts';
import { openSystem, post, root, startBare } from './system.ts';

/** Pause between requests, ms: long enough for the pool to make the isolate anew. */
const PACE_MS = 50;

const project = join(root, 'bench/trivial-function');

/** What the whole stack adds to a function that does nothing, against bare Hono with the same function. */
export async function trivial(): Promise<Row[]> {
  await using bench = await openSystem();
  await bench.cfn('deploy', project);
  const bare = await startBare(project);
  try {
    const body = new Uint8Array(1024);
    const call = (url: string) => async (): Promise<void> => void (await post(url, body));
    const ours = call(`${bench.system.gatewayUrl}/f/demo/trivial/`);
    const theirs = call(bare.ready.url);
    const below = await alternate(ours, theirs, { rounds: 5, count: 60, concurrency: 1, paceMs: PACE_MS, warmUp: 400 });
    const sealed = await confidentialFetch({
      endpoint: bench.system.gatewayUrl,
      function: 'demo/trivial',
      policy: parseWorkerPolicy(JSON.parse(readFileSync(bench.system.config.policy, 'utf8'))),
      suite: nodeSuite,
      hasher: nodeHasher,
    });
    const sealedCall = async (): Promise<void> => void (await (await sealed('/', { method: 'POST', body })).text());
    const inSeal = await alternate(sealedCall, theirs, {
      rounds: 5,
      count: 60,
      concurrency: 1,
      paceMs: PACE_MS,
      warmUp: 100,
    });
    const addedSealed = inSeal.a.map(({ p50 }, i) => p50 - (inSeal.b[i]?.p50 ?? Number.NaN));
    const added = below.a.map(({ p50 }, i) => p50 - (below.b[i]?.p50 ?? Number.NaN));
    const full = await alternate(ours, theirs, { rounds: 3, count: 100, concurrency: 4, warmUp: 50 });
    const ratios = full.a.map(({ perSecond }, i) => perSecond / (full.b[i]?.perSecond ?? Number.NaN));
    return [
      {
        row: 'trivial function, p50, open mode, below pool capacity',
        unit: 'ms',
        ours: median(below.a.map(({ p50 }) => p50)),
        reference: median(below.b.map(({ p50 }) => p50)),
        added: median(added),
        spread: [Math.min(...added), Math.max(...added)],
        goal: 'adds ≤ 2 ms',
        met: median(added) <= 2,
      },
      {
        row: 'trivial function, p50, sealed by the client in the same process, below pool capacity',
        unit: 'ms',
        ours: median(inSeal.a.map(({ p50 }) => p50)),
        reference: median(inSeal.b.map(({ p50 }) => p50)),
        added: median(addedSealed),
        spread: [Math.min(...addedSealed), Math.max(...addedSealed)],
        goal: 'adds ≤ 1.5 ms',
        met: median(addedSealed) <= 1.5,
      },
      {
        row: 'trivial function, saturated at concurrency 4: bound by making fresh isolates',
        unit: 'requests/s',
        ours: median(full.a.map(({ perSecond }) => perSecond)),
        reference: median(full.b.map(({ perSecond }) => perSecond)),
        ratio: median(ratios),
        spread: [Math.min(...ratios), Math.max(...ratios)],
        goal: 'none here',
        met: true,
      },
    ];
  } finally {
    await bare.stop();
  }
}
