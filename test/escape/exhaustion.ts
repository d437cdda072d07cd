import { says, throws, usesUpCpu, usesUpMemory, type EscapeCase } from './case.ts';

const WASM = `const wasm = (...bytes) => new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...bytes]);`;
/** (module (func (loop br 0)) (start 0)) */
const WASM_LOOP = `${WASM} const module = new WebAssembly.Module(wasm(1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 8, 1, 0, 10, 9, 1, 7, 0, 3, 0x40, 0x0c, 0, 0x0b, 0x0b));`;

/** Time, memory and queues used up: the invocation ends with its code, the others go on. */
export const exhaustion: readonly EscapeCase[] = [
  usesUpCpu('a loop', `for (;;);`),
  usesUpCpu('a loop that catches everything', `for (;;) { try { for (;;); } catch {} finally { for (;;); } }`),
  usesUpCpu('a loop in a getter of the answer', `return new Response('x', { headers: { get a() { for (;;); } } });`),
  usesUpCpu('a loop in a timer', `await new Promise(() => setTimeout(() => { for (;;); }));`),
  usesUpMemory(
    'a loop of microtasks',
    `await new Promise(() => { const spin = () => Promise.resolve().then(spin); spin(); });`,
  ),
  usesUpMemory(
    'a loop of queueMicrotask',
    `await new Promise(() => { const spin = () => queueMicrotask(spin); spin(); });`,
  ),
  usesUpCpu('a regular expression', `/^(a+)+$/.test('a'.repeat(40) + 'b'); for (;;);`),
  usesUpCpu('a WebAssembly start function', `${WASM_LOOP} new WebAssembly.Instance(module);`),
  usesUpCpu('a thenable loop', `const t = { then(ok) { ok(t); } }; await t;`),
  usesUpCpu(
    'a loop in waitUntil',
    `ctx.waitUntil(Promise.resolve().then(() => { for (;;); })); return new Response('x');`,
  ),
  usesUpMemory(
    'an iterator without end',
    `new Headers({ [Symbol.iterator]: function* () { for (let i = 0;; i++) yield ['a', 'b'.repeat(0)]; } }); for (;;);`,
  ),
  usesUpCpu('BigInt', `let n = 3n; for (;;) n = n ** 3n % (2n ** 100000n);`),
  { name: 'a promise that never settles', source: `await new Promise(() => {});`, holds: ['CFN_LIMIT_WALL'] },
  {
    name: 'waitUntil without end',
    source: `ctx.waitUntil(new Promise(() => {})); return new Response('x');`,
    holds: ['CFN_LIMIT_WALL', 'cut'],
  },
  {
    name: 'Atomics.waitAsync',
    source: `await Atomics.waitAsync(new Int32Array(new SharedArrayBuffer(4)), 0, 0).value;`,
    holds: ['CFN_LIMIT_WALL', 'CFN_FUNCTION_THREW'],
  },
  throws('Atomics.wait', `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);`),
  throws('deep recursion', `const f = () => f() + 1; f();`),
  throws(
    'deep recursion through the platform',
    `const t = new EventTarget(); t.addEventListener('x', () => t.dispatchEvent(new Event('x'))); const f = () => { new Headers({ get a() { return f(); } }); }; f();`,
  ),
  throws('a string that is too long', `'x'.padEnd(2 ** 30) + 'x'.repeat(2 ** 29);`),
  throws('timers', `for (let i = 0; i < 1e6; i++) setTimeout(() => {}, 1e6);`),
  says(
    'odd delays',
    `let fired = 0; for (const ms of [-1, NaN, -Infinity, '0', undefined, null]) setTimeout(() => fired++, ms); await new Promise((done) => setTimeout(done, 50)); return fired;`,
    6,
  ),
  says(
    'a delay over 32 bits',
    `const t = setTimeout(() => {}, 2 ** 40); clearTimeout(t); clearTimeout({}); clearTimeout(Symbol.iterator.description); return 'done';`,
    'done',
  ),
  throws('random bytes', `crypto.getRandomValues(new Uint8Array(1e6));`),
  usesUpMemory('arrays', `const keep = []; for (;;) keep.push(new Array(100_000).fill(keep.length));`),
  usesUpMemory('strings', `const keep = []; for (;;) keep.push(('x'.repeat(1e5) + keep.length).toUpperCase());`),
  usesUpMemory('maps', `const keep = new Map(); for (let i = 0;; i++) keep.set({}, [i]);`),
  usesUpMemory('closures and promises', `const keep = []; for (;;) keep.push(new Promise(() => {}).then(() => keep));`),
  {
    name: 'array buffers',
    source: `const keep = []; for (;;) keep.push(new Uint8Array(1e6).fill(1));`,
    holds: ['CFN_LIMIT_MEMORY', 'CFN_SANDBOX_LOST', 'CFN_FUNCTION_THREW'],
  },
  {
    name: 'WebAssembly memories',
    source: `const keep = []; for (;;) { const m = new WebAssembly.Memory({ initial: 256 }); new Uint8Array(m.buffer).fill(1); keep.push(m); }`,
    holds: ['CFN_LIMIT_MEMORY', 'CFN_SANDBOX_LOST', 'CFN_FUNCTION_THREW', 'CFN_LIMIT_CPU'],
  },
  {
    name: 'WebAssembly tables',
    source: `const keep = []; for (;;) keep.push(new WebAssembly.Table({ initial: 1e7, element: 'anyfunc' }));`,
    holds: ['CFN_LIMIT_MEMORY', 'CFN_SANDBOX_LOST', 'CFN_FUNCTION_THREW', 'CFN_LIMIT_CPU'],
  },
  {
    name: 'WebAssembly modules',
    source: `${WASM_LOOP} const keep = []; for (;;) keep.push(new WebAssembly.Module(wasm()), new WebAssembly.Memory({ initial: 1 }));`,
    holds: ['CFN_LIMIT_MEMORY', 'CFN_SANDBOX_LOST', 'CFN_FUNCTION_THREW', 'CFN_LIMIT_CPU'],
  },
  {
    name: 'an answer without end',
    source: `return new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(65536)); } }));`,
    holds: ['CFN_LIMIT_RESPONSE', 'CFN_LIMIT_CPU', 'CFN_LIMIT_WALL', 'cut'],
  },
  says(
    'generators left open',
    `function* g() { try { yield 1; } finally { globalThis.open = 1; } } const all = Array.from({ length: 1e4 }, () => { const i = g(); i.next(); return i; }); return all.length;`,
    10_000,
  ),
  says(
    'FinalizationRegistry',
    `const r = new FinalizationRegistry(() => { throw new Error('finalised'); }); for (let i = 0; i < 1e4; i++) r.register({}, i); return 'done';`,
    'done',
  ),
];
