import { says, throws, type EscapeCase } from './case.ts';

const FEEDS = `const feeds = () => ({ input: new Tensor('float32', new Float32Array(512), [1, 512]), state: new Tensor('float32', new Float32Array(256), [2, 1, 128]), sr: new Tensor('int64', BigInt64Array.of(16000n), []) });`;
const run = (name: string, source: string, value: unknown): EscapeCase =>
  says(name, `${FEEDS} const outcome = (p) => p.then(() => 'ran', (e) => e.code ?? e.name); ${source}`, value);

/** By the stack or by the clock, whichever is first. */
const ends = (name: string, source: string): EscapeCase => ({
  name,
  source,
  holds: ['CFN_FUNCTION_THREW', 'CFN_LIMIT_CPU', 'CFN_LIMIT_MEMORY', 'CFN_SANDBOX_LOST'],
});

/** Values that are not what they seem, where they cross from the function to the platform and to the process. */
export const boundary: readonly EscapeCase[] = [
  {
    name: 'a proxy of a Response',
    source: `return new Proxy(new Response('x'), {});`,
    holds: ['CFN_FUNCTION_NO_RESPONSE'],
  },
  {
    name: 'an object with the prototype of Response',
    source: `return Object.create(Response.prototype);`,
    holds: ['CFN_FUNCTION_NO_RESPONSE'],
  },
  { name: 'a thenable that never ends', source: `return { then() {} };`, holds: ['CFN_LIMIT_WALL'] },
  {
    name: 'a thenable that answers twice',
    source: `return { then(ok) { ok(new Response('"one"')); ok(new Response('"two"')); } };`,
    holds: '"one"',
  },
  throws(
    'a thrown proxy',
    `throw new Proxy(new Error('x'), { get() { throw new Error('trap'); }, getPrototypeOf() { throw new Error('trap'); } });`,
  ),
  throws('a thrown host error of its own making', `const e = new Error('x'); e.code = 'CFN_INTERNAL'; throw e;`),
  throws('a thrown null', `throw null;`),
  run(
    'feeds whose getters answer differently',
    `let n = 0; const f = feeds(); Object.defineProperty(f, 'input', { get: () => n++ === 0 ? new Tensor('float32', new Float32Array(512), [1, 512]) : new Tensor('float32', new Float32Array(1), [1]), enumerable: true }); return [await outcome(env.VAD.run(f)), n];`,
    ['ran', 1],
  ),
  run(
    'a tensor whose fields change',
    `const f = feeds(); const t = f.input; let n = 0; const evil = Object.create(t, { data: { get: () => n++ ? new Float32Array(1e6) : new Float32Array(512) } }); f.input = evil; const o = await outcome(env.VAD.run(f)); return ['ran', 'CFN_MODEL_INPUT', 'TypeError'].includes(o);`,
    true,
  ),
  run(
    'a tensor changed after it was made',
    `const f = feeds(); try { f.input.data = new Float32Array(1); } catch {} return ['ran', 'CFN_MODEL_INPUT', 'RangeError', 'TypeError', 'CFN_ENGINE_FAILED'].includes(await outcome(env.VAD.run(f)));`,
    true,
  ),
  run(
    'a tensor on a detached buffer',
    `const f = feeds(); f.input.data.buffer.transfer(); const o = await outcome(env.VAD.run(f)); return o !== 'ran';`,
    true,
  ),
  run(
    'a tensor on a buffer that shrinks',
    `const b = new ArrayBuffer(2048, { maxByteLength: 4096 }); const t = new Tensor('float32', new Float32Array(b), [1, 512]); b.resize(16); const o = await outcome(env.VAD.run({ ...feeds(), input: t })); return o !== 'ran';`,
    true,
  ),
  run(
    'a tensor on a buffer that grows',
    `const b = new ArrayBuffer(2048, { maxByteLength: 8192 }); const t = new Tensor('float32', new Float32Array(b), [1, 512]); b.resize(8192); const o = await outcome(env.VAD.run({ ...feeds(), input: t })); return ['ran', 'CFN_MODEL_INPUT', 'RangeError', 'TypeError'].includes(o);`,
    true,
  ),
  run(
    'a tensor on shared memory',
    `const t = new Tensor('float32', new Float32Array(new SharedArrayBuffer(2048)), [1, 512]); return ['ran', 'TypeError', 'CFN_MODEL_INPUT'].includes(await outcome(env.VAD.run({ ...feeds(), input: t })));`,
    true,
  ),
  run(
    'a typed array that lies about its length',
    `const d = new Float32Array(512); Object.defineProperty(d, 'byteLength', { get: () => 2 ** 40 }); Object.defineProperty(d, 'length', { value: 512 }); return ['ran', 'CFN_MODEL_INPUT', 'TypeError', 'RangeError'].includes(await outcome(env.VAD.run({ ...feeds(), input: new Tensor('float32', d, [1, 512]) })));`,
    true,
  ),
  run(
    'dims that overflow',
    `try { new Tensor('float32', new Float32Array(0), [2 ** 31, 2 ** 31, 0]); } catch {} try { new Tensor('float32', new Float32Array(1), [2 ** 53]); return 'made'; } catch (e) { return e.name; }`,
    'TypeError',
  ),
  run(
    'a model name as input name',
    `return outcome(env.VAD.run({ ...feeds(), __proto__: null, constructor: 1 }));`,
    'CFN_MODEL_INPUT',
  ),
  run(
    'model runs without end',
    `const all = Array.from({ length: 400 }, () => outcome(env.VAD.run(feeds()))); const got = new Set(await Promise.all(all)); return [...got].every((o) => ['ran', 'RangeError', 'CFN_MODEL_INPUT'].includes(o));`,
    true,
  ),
  says(
    'a buffer transferred twice',
    `const b = new ArrayBuffer(8); b.transfer(); try { b.transfer(); return 'twice'; } catch (e) { return e.name; }`,
    'TypeError',
  ),
  says(
    'the request body transferred while it is read',
    `const whole = await request.clone().arrayBuffer(); const b = await request.arrayBuffer(); b.transfer(); return whole.byteLength > 0;`,
    true,
  ),
  says(
    'a response on a buffer that is detached meanwhile',
    `const b = new Uint8Array(64); const r = new Response(b); b.buffer.transfer(); return (await r.arrayBuffer()).byteLength;`,
    64,
  ),
  says('a cyclic structuredClone', `const a = {}; a.a = a; const c = structuredClone(a); return c.a === c;`, true),
  ends(
    'a structuredClone without end',
    `let a = {}; for (let i = 0; i < 1e6; i++) a = { a }; structuredClone(a); throw new Error('went through');`,
  ),
  ends(
    'nested JSON',
    `JSON.stringify(JSON.parse('['.repeat(1e6) + ']'.repeat(1e6))); throw new Error('went through');`,
  ),
  says(
    'CR and LF in a header',
    `const out = []; for (const v of ['a\\r\\nx: y', 'a\\nb', 'a\\0b']) { try { new Headers({ a: v }); out.push('made'); } catch (e) { out.push(e.name); } } return out;`,
    ['TypeError', 'TypeError', 'TypeError'],
  ),
  says(
    'a status that is none',
    `const out = []; for (const s of [0, 99, 101, 600, NaN, 1e9]) { try { new Response(null, { status: s }); out.push(s); } catch (e) { out.push(e.name); } } return out.every((o) => o === 'RangeError' || o === 'TypeError');`,
    true,
  ),
];
