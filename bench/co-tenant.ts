import { writeFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { load } from './measure.ts';
import type { Row } from './row.ts';
import { openSystem, post, root } from './system.ts';

const COUNT = 150;
const PACE_MS = 20;
const LANES = 2;

/** What a function's callers feel while another function of the worker uses up all the time and memory that it is given. */
export async function coTenant(): Promise<Row[]> {
  await using bench = await openSystem();
  await bench.cfn('deploy', join(root, 'bench/trivial-function'));
  await bench.cfn('deploy', hostileProject(bench.stateDir));
  const body = new Uint8Array(1024);
  const url = (name: string): string => `${bench.system.gatewayUrl}/f/demo/${name}/`;
  const neighbour = async (): Promise<void> => void (await post(url('trivial'), body));
  await load(neighbour, COUNT, 1);
  const alone = await load(neighbour, COUNT, 1, PACE_MS);
  let stopped = false;
  const lane = async (): Promise<void> => {
    while (!stopped) await (await fetch(url('hostile'), { method: 'POST', body })).arrayBuffer();
  };
  const lanes = Array.from({ length: LANES }, lane);
  const beside = await load(neighbour, COUNT, 1, PACE_MS); // each must be answered
  stopped = true;
  await Promise.all(lanes);
  const row = (quantile: 'p50' | 'p99'): Row => ({
    row: `trivial function, ${quantile}, beside a function that loops and allocates`,
    unit: 'ms',
    ours: beside[quantile],
    reference: alone[quantile],
    ratio: beside[quantile] / alone[quantile],
    goal: 'none here',
    met: true,
  });
  return [row('p50'), row('p99')];
}

function hostileProject(stateDir: string): string {
  const dir = join(stateDir, 'hostile');
  mkdirSync(join(dir, 'src'), { recursive: true });
  writeFileSync(
    join(dir, 'wrangler-style.toml'),
    'name = "hostile"\nmain = "src/index.ts"\ncompatibility_date = "2026-11-01"\n[limits]\ncpu_ms = 500\nmemory_mb = 64\n[caller]\nplaintext = true\n',
  );
  writeFileSync(
    join(dir, 'src/index.ts'),
    `let n = 0;
export default { fetch(request: Request) {
  const keep: unknown[] = [];
  if (Date.now() % 2 === 0) for (;;) n++;
  for (;;) keep.push(new Array(10_000).fill(request));
} };
`,
  );
  return dir;
}
