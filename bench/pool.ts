import { randomFillSync } from 'node:crypto';
import { join } from 'node:path';
import { encodeRequest } from '../proto/bhttp.ts';
import { RESPONSE_BYTES_MAX } from '../proto/index.ts';
import { invoke, type InvocationDeps } from '../runtime/sandbox/invocation.ts';
import { isolatePool } from '../runtime/sandbox/isolate-pool.ts';
import { readyIsolate, type IsolateRecipe } from '../runtime/sandbox/isolate.ts';
import { makeSnapshot, readPlatform } from '../runtime/sandbox/platform-image.ts';
import { buildPlatformSource } from '../runtime/sandbox/platform-source.ts';
import { bundleFunction } from '../artifacts/index.ts';
import { median, quantile } from './measure.ts';
import type { Row } from './row.ts';
import { root } from './system.ts';

const ROUNDS = 200;
const POOL_SIZE = 8;

/**
 * What an invocation waits for in the sandbox, taken apart in one process: an isolate out of the pool, made from the snapshot with the
 * function in it and never used; then the request going in, the handler, and the first bytes of the answer coming out.
 */
export async function pool(): Promise<Row[]> {
  const platform = readPlatform(await buildPlatformSource());
  const { bundle } = await bundleFunction({ projectDir: join(root, 'bench/trivial-function') });
  const recipe: IsolateRecipe = {
    platform,
    loaded: [],
    snapshot: makeSnapshot(platform, []),
    bundle: Buffer.from(bundle).toString('utf8'),
    options: { vars: {}, models: [], responseBytesMax: RESPONSE_BYTES_MAX },
    memoryMb: 128,
    onCatastrophe: () => process.exit(70),
  };
  const random = (length: number): ArrayBuffer => randomFillSync(new Uint8Array(length)).buffer;
  let makingMs: number[] = [];
  const isolates = isolatePool(POOL_SIZE, async () => {
    const began = performance.now();
    const ready = await readyIsolate(recipe, random);
    makingMs.push(performance.now() - began);
    return ready;
  });
  const request = encodeRequest({
    method: 'POST',
    scheme: 'https',
    authority: 'gateway.example',
    path: '/',
    headers: [],
    body: new Uint8Array(1024),
  });
  const takeMs: number[] = [];
  const answerMs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await isolates.refill();
    const began = performance.now();
    const ready = await isolates.take();
    takeMs.push(performance.now() - began);
    let answeredMs: number | undefined;
    const deps: InvocationDeps = {
      engines: [],
      inputNames: [],
      limits: { cpuMs: 1000, wallMs: 1000, memoryMb: 128 },
      responseBytesMax: RESPONSE_BYTES_MAX,
      now: () => performance.now(),
      random,
      respond: async () => void (answeredMs ??= performance.now() - began),
      tell: async () => undefined,
    };
    await invoke(ready, { message: Uint8Array.from(request).buffer, streamed: false, wallMs: 1000 }, deps).done;
    if (answeredMs === undefined) throw new Error('the function did not answer');
    answerMs.push(answeredMs);
  }
  makingMs = makingMs.slice(POOL_SIZE); // the first are slow
  return [
    row(
      'isolate ready from the pool, p50',
      takeMs,
      '≤ 0.1 ms, p99 ≤ 1 ms',
      median(takeMs) <= 0.1 && quantile(takeMs, 0.99) <= 1,
    ),
    row('  and the first bytes of its answer, p50', answerMs, 'none here', true),
    row('  making one isolate for the pool, p50', makingMs, 'none here', true),
  ];
}

function row(name: string, ms: readonly number[], goal: string, met: boolean): Row {
  return { row: name, unit: 'ms', ours: median(ms), spread: [Math.min(...ms), quantile(ms, 0.99)], goal, met };
}
