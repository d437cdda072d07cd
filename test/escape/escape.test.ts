import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { fromProblem } from '../../proto/index.ts';
import { startTestSystem, VAD_MODEL, type TestSystem } from '../local-system.ts';
import { boundary } from './boundary.ts';
import { exhaustion } from './exhaustion.ts';
import { forging } from './forging.ts';
import { reachingOut } from './reaching-out.ts';
import { turnedGlobals } from './turned-globals.ts';

const GROUPS = { 'reaching out': reachingOut, 'turned globals': turnedGlobals, boundary, exhaustion, forging };
const all = Object.values(GROUPS).flat();

/** What an invocation finds when it starts: everything that an earlier one could have changed. */
const PROBE = `let calls = 0; const startKeys = Reflect.ownKeys(globalThis).map(String).sort();
function probe() {
  const things = [Object, Array, Function, Promise, Map, Set, Uint8Array, Error, String, Number, RegExp, Symbol, Date, Reflect, JSON, Response, Request, Headers, Tensor, URL];
  const shape = things.map((thing) => [thing, thing.prototype].filter(Boolean).map((o) => Reflect.ownKeys(o).map((key) => { const d = Reflect.getOwnPropertyDescriptor(o, key); return String(key) + typeof d.value + (typeof d.value === 'function' ? /native code/.test(Function.prototype.toString.call(d.value)) : ''); }).join()).join());
  return Response.json({ calls: ++calls, startKeys, shape, frozen: things.map(Object.isFrozen), kept: globalThis.kept ?? null });
}`;
const hostile = `${PROBE}
const handlers = {${all.map(({ source }, i) => `${i}: async (request, env, ctx) => { globalThis.kept = 'of ${i}'; ${source} }`).join(',\n')}};
export default { fetch(request, env, ctx) { const i = request.headers.get('x-case'); return i === null ? probe() : handlers[i](request, env, ctx); } };`;

let system: TestSystem;
let baseline: string;
let neighbour: { stop(): Promise<{ calls: number; failures: string[]; p50: number; p99: number }> };

beforeAll(async () => {
  system = await startTestSystem();
  const digest = await system.push('demo/vad@5', VAD_MODEL);
  await system.grant(digest, 'demo/hostile');
  await system.deploy('hostile', hostile, {
    models: [{ binding: 'VAD', model: 'demo/vad@5', digest }],
    limits: { cpuMs: 800, wallMs: 2_500, memoryMb: 48 },
  });
  await system.deploy('neighbour', 'let n = 0; export default { fetch: () => new Response(String(++n)) }');
  baseline = await probe();
  await system.call('neighbour');
  neighbour = callSteadily();
}, 120_000);
afterAll(() => system.stop());

describe.each(Object.entries(GROUPS))('INV-09 INV-10 %s', (_group, cases) => {
  test.each(cases)('$name', async ({ source, name, holds }) => {
    const response = await system.call('hostile', {
      method: 'POST',
      body: 'the body',
      headers: { 'x-case': String(all.findIndex((item) => item.source === source && item.name === name)) },
    });
    const text = await response.text().catch(() => 'cut');
    expect(response.headers.get('cfn-receipt')).not.toBe('forged');
    if (typeof holds === 'string') expect([response.status, text]).toEqual([200, holds]);
    else expect(holds).toContain(text === 'cut' ? 'cut' : (codeOf(text) ?? text.slice(0, 200)));
    expect(await probe()).toBe(baseline);
  });
});

test('INV-10 a co-tenant was served all the while', async () => {
  expect(all.length).toBeGreaterThanOrEqual(60);
  const { calls, failures, p50, p99 } = await neighbour.stop();
  console.log(
    `co-tenant during ${all.length} escapes: ${calls} calls, p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`,
  );
  expect(failures).toEqual([]);
  expect(calls).toBeGreaterThan(all.length / 2);
});

/** State as a new invocation of the same function sees it. One that shared a process which just ended may try again: the code says so. */
async function probe(): Promise<string> {
  for (let attempt = 0; ; attempt++) {
    const response = await system.call('hostile');
    const text = await response.text();
    if (response.status === 200) return text;
    if (codeOf(text) !== 'CFN_SANDBOX_LOST' || attempt === 3) throw new Error(`the probe was answered with ${text}`);
  }
}

function codeOf(text: string): string | undefined {
  try {
    return fromProblem(JSON.parse(text))?.code;
  } catch {
    return undefined;
  }
}

/** Calls another function of the same worker, one call after another, until stopped. */
function callSteadily(): typeof neighbour {
  const times: number[] = [];
  const failures: string[] = [];
  let stopped = false;
  const loop = (async () => {
    while (!stopped) {
      const began = performance.now();
      const response = await system.call('neighbour');
      const text = await response.text();
      times.push(performance.now() - began);
      if (response.status !== 200 || text !== '1') failures.push(text); // 1: a fresh isolate each time
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  return {
    async stop() {
      stopped = true;
      await loop;
      times.sort((a, b) => a - b);
      const at = (q: number): number => times[Math.floor(q * times.length)] ?? Number.NaN;
      return { calls: times.length, failures, p50: at(0.5), p99: at(0.99) };
    },
  };
}
