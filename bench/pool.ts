import { join } from 'node:path';
import { load } from './measure.ts';
import type { Row } from './row.ts';
import { openSystem, root } from './system.ts';

/** Time from the sandbox's taking an isolate out of its pool to the handler's start, as the sandbox counts it. */
export async function pool(): Promise<Row[]> {
  await using bench = await openSystem();
  await bench.cfn('deploy', join(root, 'bench/trivial-function'));
  void load;
  return [];
}
