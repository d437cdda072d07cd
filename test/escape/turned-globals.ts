import { says, throws, type EscapeCase } from './case.ts';

/** A whole round through the platform: timers, digest, random, model, request and answer. */
const ROUND = `const digest = await crypto.subtle.digest('SHA-256', new Uint8Array(8)); crypto.getRandomValues(new Uint8Array(8));
  await new Promise((done) => setTimeout(done, 1)); await request.text();
  await env.VAD.run({ input: new Tensor('float32', new Float32Array(512), [1, 512]), state: new Tensor('float32', new Float32Array(256), [2, 1, 128]), sr: new Tensor('int64', BigInt64Array.of(16000n), []) });`;

/** Replaces methods by ones that note every function they see which is not the language's and not this function's own. */
const spyOn = (paths: readonly string[]): string => `
  const natives = new Set(); const walk = (o, depth) => { if (o === null || (typeof o !== 'object' && typeof o !== 'function') || natives.has(o) || depth > 4) return; natives.add(o); for (const k of Reflect.ownKeys(o)) { const d = Reflect.getOwnPropertyDescriptor(o, k); if (d.value) walk(d.value, depth + 1); if (d.get) natives.add(d.get); if (d.set) natives.add(d.set); } };
  walk(globalThis, 0); walk(Object.getPrototypeOf(Uint8Array), 0); walk(env, 0);
  const leaks = new Set(); const own = new Set(); const { ownKeys, getOwnPropertyDescriptor, apply } = Reflect; const has = Set.prototype.has, add = Set.prototype.add; let busy = false;
  const note = (value, depth) => { if (depth > 3 || value === null || (typeof value !== 'object' && typeof value !== 'function')) return; if (typeof value === 'function' && !apply(has, natives, [value]) && /\\{ \\[native code\\] \\}/.test('' + apply(Function.prototype.toString, value, [])) && !value.name.startsWith('bound ') && !/^$|^(resolve|reject)$/.test(value.name)) apply(add, leaks, [value.name]); if (typeof value === 'function') return; for (const k of ownKeys(value)) { const d = getOwnPropertyDescriptor(value, k); if (d && 'value' in d) note(d.value, depth + 1); if (/^(respond|finish|startTimer|stopTimer)$/.test('' + (typeof k === 'symbol' ? '' : k))) apply(add, leaks, [k]); } };
  const spy = (holder, name) => { const real = holder[name]; const fake = function (...args) { if (!busy) { busy = true; try { note(this, 0); for (let i = 0; i < args.length; i++) note(args[i], 0); } catch {} busy = false; } return new.target ? Reflect.construct(real, args, new.target) : apply(real, this, args); }; natives.add(fake); try { Object.defineProperty(holder, name, { value: fake, writable: true, configurable: true }); } catch {} };
  ${paths.map((path) => `spy(${path.slice(0, path.lastIndexOf('.'))}, '${path.slice(path.lastIndexOf('.') + 1)}');`).join(' ')}`;
const spied = (name: string, ...paths: string[]): EscapeCase =>
  says(`${name}, replaced by spies`, `${spyOn(paths)} ${ROUND} return [...leaks];`, []);

/** Built-in objects changed under the platform's feet: neither the platform's inside nor the next invocation is reached. */
export const turnedGlobals: readonly EscapeCase[] = [
  says(
    'a control: a spy sees what it is shown',
    `${spyOn(['Array.prototype.push'])} [].push({ inside: { respond: 1 } }); return [...leaks];`,
    ['respond'],
  ),
  spied(
    'methods of arrays',
    'Array.prototype.push',
    'Array.prototype.map',
    'Array.prototype.slice',
    'Array.prototype.forEach',
    'Array.prototype.indexOf',
  ),
  spied('methods of maps', 'Map.prototype.set', 'Map.prototype.get', 'Map.prototype.delete'),
  spied('promises', 'Promise.prototype.then', 'Promise.resolve', 'Promise.prototype.catch'),
  spied(
    'typed arrays',
    'Uint8Array.prototype.__proto__.set',
    'Uint8Array.prototype.__proto__.subarray',
    'Uint8Array.prototype.__proto__.slice',
    'Uint8Array.prototype.__proto__.fill',
  ),
  spied('functions', 'Function.prototype.call', 'Function.prototype.apply', 'Function.prototype.bind'),
  spied(
    'Reflect and Object',
    'Reflect.get',
    'Reflect.apply',
    'Object.keys',
    'Object.assign',
    'Object.freeze',
    'Object.defineProperty',
  ),
  spied('JSON', 'JSON.parse', 'JSON.stringify'),
  spied(
    'strings and numbers',
    'String.prototype.slice',
    'String.prototype.replace',
    'Number.isSafeInteger',
    'RegExp.prototype.test',
  ),
  says(
    'setters for numbered properties of Array.prototype',
    `const seen = []; for (let i = 0; i < 8; i++) Object.defineProperty(Array.prototype, i, { set(v) { if (typeof v === 'function') seen[seen.length] = 'x'; Object.defineProperty(this, i, { value: v, writable: true, configurable: true, enumerable: true }); }, configurable: true });
     ${ROUND} const count = Reflect.ownKeys(seen).length - 1; for (let i = 0; i < 8; i++) delete Array.prototype[i]; return count;`,
    0,
  ),
  says(
    'getters on Object.prototype for the names of host calls',
    `const seen = new Set(); for (const name of ['respond', 'finish', 'run', 'startTimer', 'stopTimer', 'random', 'resolve', 'reject', 'then'])
       Object.defineProperty(Object.prototype, name, { get() { seen.add(name); return undefined; }, set(v) { seen.add(name + '=' + typeof v); Object.defineProperty(this, name, { value: v, writable: true, configurable: true, enumerable: true }); }, configurable: true });
     ${ROUND} return [...seen].filter((name) => name.includes('function'));`,
    [],
  ),
  says(
    'Object.prototype polluted',
    `Object.prototype.polluted = 'yes'; Array.prototype.polluted = 'yes'; Function.prototype.polluted = 'yes'; return 'done';`,
    'done',
  ),
  throws(
    'Promise.prototype.then thrown away',
    `Promise.prototype.then = () => { throw new Error('no'); }; throw new Error('no');`,
  ),
  throws(
    'every global deleted',
    `for (const key of Reflect.ownKeys(globalThis)) if (key !== 'Response') try { delete globalThis[key]; } catch {} throw new Error('done');`,
  ),
  says(
    'prototypes frozen',
    `[Object, Array, Promise, Map, Uint8Array, Error].forEach((C) => Object.freeze(C.prototype)); return 'done';`,
    'done',
  ),
  // The platform's own arrays fail then, in the function's own isolate.
  {
    name: 'Symbol.species that makes other arrays',
    source: `class Evil extends Array { static get [Symbol.species]() { return class { constructor() { throw new Error('species'); } }; } } Object.defineProperty(Array, Symbol.species, { get() { return Evil; }, configurable: true }); return Response.json('done');`,
    holds: ['CFN_FUNCTION_THREW', 'CFN_FUNCTION_NO_RESPONSE'],
  },
  says(
    'Symbol.hasInstance that says yes',
    `Object.defineProperty(Response, Symbol.hasInstance, { value: () => true }); Object.defineProperty(Tensor, Symbol.hasInstance, { value: () => true }); return env.VAD.run({ input: { type: 'float32', data: { byteLength: 9 }, dims: [1, 512] } }).then(() => 'ran', (e) => 'refused');`,
    'refused',
  ),
  says(
    'Symbol.toPrimitive of arguments',
    `const evil = { [Symbol.toPrimitive]: () => { throw new RangeError('mine'); } }; const out = []; for (const f of [() => new URL(evil), () => new Headers({ a: evil }), () => new Response(evil), () => atob(evil), () => new Tensor(evil, new Float32Array(1), [1])]) { try { f(); out.push('made'); } catch (e) { out.push(e.name); } } return out.includes('made');`,
    false,
  ),
  says('a fake __boot', `globalThis.__boot = () => { throw new Error('boot'); }; return 'done';`, 'done'),
  says(
    'Date and Intl replaced',
    `globalThis.Date = class { static now() { return NaN; } }; globalThis.Intl = undefined; performance.now(); return 'done';`,
    'done',
  ),
];
