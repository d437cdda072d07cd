import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestSandbox, type TestSandbox } from './testing.ts';

/** Places where code can keep something, as statements over a key `k` and a value `v`. */
const PLACES = [
  'moduleState[k] = v',
  'moduleMap.set(k, v)',
  'counter += v.length + 1',
  'Cache.items.push([k, v])',
  'closure(k, v)',
  'globalThis[k] = v',
  'Object.defineProperty(globalThis, k, { get: () => v, configurable: false })',
  'Object.prototype[k] = v',
  'Array.prototype[k] = v',
  'Function.prototype[k] = v',
  'Response.prototype[k] = v',
  'Promise[k] = v',
  'Error.stackTraceLimit = v.length',
  'Symbol[k] = v',
  'env[k] = v',
  'Object.getPrototypeOf(env)[k] = v',
  'URL[k] = v',
  'matcher.exec("x" + v)',
  'Math.random = () => v.length',
  'Date.now = () => v.length',
  'JSON.stringify = () => "turned"',
  'Array.prototype.map = () => []',
  'setTimeout(() => { globalThis[k] = v; moduleState[k] = v; }, v.length)',
  'setInterval(() => { counter++; }, 1)',
  'queueMicrotask(() => { moduleState[k] = v; })',
  'Promise.resolve().then(() => { globalThis[k] = v; })',
  'registry.register({}, v)',
  'weak.set(moduleState, v)',
  'console[k] = v',
  'crypto[k] = v',
  'ctx.waitUntil(Promise.resolve(moduleState[k] = v))',
];
const BUNDLE = `const moduleState = {}, moduleMap = new Map(), matcher = /x/g, weak = new WeakMap(), registry = new FinalizationRegistry(() => {});
class Cache { static items = []; }
let counter = 0;
const closure = (() => { const kept = []; return (...item) => (item.length > 0 ? kept.push(item) : kept); })();
const keysOf = (o) => Reflect.ownKeys(o).map(String).sort().join();
const { stringify } = JSON;
const look = (env) => stringify([moduleState, [...moduleMap], counter, Cache.items, closure(), matcher.lastIndex, weak.has(moduleState), Error.stackTraceLimit,
  [globalThis, Object.prototype, Array.prototype, Function.prototype, Response.prototype, Promise, Symbol, env, Object.getPrototypeOf(env), URL, console, crypto].map(keysOf),
  [Math.random, Date.now, JSON.stringify, Array.prototype.map].map((f) => Function.prototype.toString.call(f)), [1, 2].map((x) => x + 1)]);
const places = [${PLACES.map((code) => `(k, v, env, ctx) => { ${code}; }`).join(',\n')}];
export default { async fetch(request, env, ctx) {
  const before = look(env);
  for (const [place, k, v] of await request.json()) { try { places[place](k, v, env, ctx); } catch {} }
  await new Promise((done) => setTimeout(done, 10));
  return new Response(request.headers.has('x-after') ? look(env) : before);
} };`;

const changes = fc.array(
  fc.tuple(
    fc.nat(PLACES.length - 1),
    fc.constantFrom('a', 'kept', 'toString', 'then', '0', 'respond'),
    fc.string({ maxLength: 6 }),
  ),
  { minLength: 1, maxLength: 12 },
);

describe.each([
  ['made from the snapshot', []],
  ['made without snapshots', ['--no-isolate-snapshot']],
])('INV-09 isolates %s', (_what, flags) => {
  let sandbox: TestSandbox;
  beforeAll(async () => void (sandbox = await startTestSandbox(BUNDLE, { flags })));
  afterAll(() => sandbox.close());
  /** What the function finds before it makes the changes, or after them. */
  const run = async (list: readonly unknown[], when: 'before' | 'after' = 'before'): Promise<string> => {
    const headers = when === 'after' ? [['x-after', '1'] as const] : [];
    const { done, body } = await sandbox.call({ method: 'POST', body: JSON.stringify(list), headers });
    expect(done.code).toBeUndefined();
    return body;
  };

  test('start as the first one did, whatever those before them changed', async () => {
    const first = await run([]);
    await fc.assert(
      fc.asyncProperty(changes, async (list) => {
        expect(await run(list)).toBe(first);
        expect(await run([])).toBe(first);
      }),
      { numRuns: 25 },
    );
  }, 120_000);

  test('would show each change, were it kept', async () => {
    const first = await run([]);
    expect(await run([], 'after')).toBe(first);
    const unseen: string[] = [];
    for (const [place, code] of PLACES.entries())
      if ((await run([[place, 'kept', 'vvv']], 'after')) === first) unseen.push(code);
    expect(unseen).toEqual(['registry.register({}, v)']); // nobody can look into that
  }, 60_000);
});
