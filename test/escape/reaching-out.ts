import { says, type EscapeCase } from './case.ts';

/** What the sandbox process has and an isolate has not. */
const HOST_NAMES = `['process', 'require', 'Buffer', 'global', 'module', 'ivm', '__boot', 'SharedArrayBufferStandIn', 'setImmediate', 'Deno']`;
const inGlobalOf = (code: string): string => `${HOST_NAMES}.filter((name) => name in (${code}))`;

/** Ways to objects of the process or of the platform's inside. */
export const reachingOut: readonly EscapeCase[] = [
  says(
    'the constructor chain of this',
    `return ${inGlobalOf(`globalThis.constructor.constructor('return this')()`)};`,
    [],
  ),
  says(
    'the constructors of everything that is given',
    `const all = [request, request.headers, env, env.VAD, env.VAD.run, ctx, ctx.waitUntil, fetch, setTimeout, crypto, crypto.subtle, Tensor, URL, console.log];
     return all.flatMap((item) => { const F = item.constructor.constructor ?? item.constructor; const g = F('return this')(); return ${inGlobalOf('g')}; });`,
    [],
  ),
  says(
    'AsyncFunction, GeneratorFunction and AsyncGeneratorFunction',
    `const F = [(async () => {}).constructor, (function* () {}).constructor, (async function* () {}).constructor];
     const got = [await F[0]('return globalThis')(), F[1]('yield globalThis')().next().value, (await F[2]('yield globalThis')().next()).value];
     return got.flatMap((g) => ${inGlobalOf('g')});`,
    [],
  ),
  says('indirect eval', `return ${inGlobalOf(`(0, eval)('this')`)};`, []),
  says('dynamic import of a built-in', `return import('node:fs').then(() => 'imported', () => 'refused');`, 'refused'),
  says(
    'dynamic import of a file',
    `return import('file:///etc/passwd').then(() => 'imported', () => 'refused');`,
    'refused',
  ),
  says(
    'dynamic import of data',
    `return import('data:text/javascript,export default 1').then(() => 'imported', () => 'refused');`,
    'refused',
  ),
  says(
    'dynamic import from Function',
    `return Function("return import('node:fs')")().then(() => 'imported', () => 'refused');`,
    'refused',
  ),
  says('import.meta', `return Object.keys(import.meta);`, []),
  says('names of the process', `return ${inGlobalOf('globalThis')};`, []),
  says(
    '__boot under other names',
    `return Reflect.ownKeys(globalThis).filter((key) => /boot|ivm|host/i.test(String(key)));`,
    [],
  ),
  says(
    'Function.caller of a sloppy function',
    `return Function("function probe() { const f = probe.caller; return f === null ? 'none' : f.caller === null ? 'its own' : 'more'; } return probe();")();`,
    'its own',
  ),
  says(
    'Function.caller of a callback that the platform calls',
    `const seen = [];
     const probe = Function('seen', "return function probe() { const f = probe.caller; if (f !== null) seen.push(String(f).slice(0, 60), f.arguments && f.arguments.length); }")(seen);
     await new Promise((done) => { setTimeout(() => done(), 5); setTimeout(probe, 1); });
     queueMicrotask(probe);
     const feeds = {}; Object.defineProperty(feeds, 'input', { get: probe, enumerable: true });
     await env.VAD.run(feeds).catch(() => {});
     new Headers({ get a() { probe(); return 'b'; } });
     new ReadableStream({ start: probe, pull: probe });
     new EventTarget().dispatchEvent(new Event('x'));
     const target = new EventTarget(); target.addEventListener('x', probe); target.dispatchEvent(new Event('x'));
     return seen.filter((item) => typeof item === 'string');`,
    [],
  ),
  says(
    'this and functions of call sites',
    `const seen = [];
     Error.prepareStackTrace = (error, sites) => { for (const site of sites) for (const item of [site.getThis(), site.getFunction()]) if (item !== undefined && item !== globalThis && item !== null) seen.push(site.getFileName() + ' ' + typeof item); return ''; };
     const look = () => { const holder = {}; Error.captureStackTrace(holder); void holder.stack; void new Error('x').stack; };
     await new Promise((done) => setTimeout(() => { look(); done(); }, 1));
     const feeds = {}; Object.defineProperty(feeds, 'input', { get: look, enumerable: true });
     await env.VAD.run(feeds).catch(() => {});
     new Headers({ get a() { look(); return 'b'; } });
     new ReadableStream({ start: look });
     return seen.filter((item) => item.startsWith('cfn:'));`,
    [],
  ),
  says(
    'call sites of platform errors',
    `const seen = [];
     Error.prepareStackTrace = (error, sites) => { for (const site of sites) if (site.getFunction() !== undefined && String(site.getFileName()).startsWith('cfn:')) seen.push(String(site.getFunctionName())); return 'x'; };
     for (const bad of [() => new URL('x'), () => new Headers([['\\n', '']]), () => new Tensor('q'), () => structuredClone(() => 1), () => atob('*')]) { try { bad(); } catch (e) { void e.stack; } }
     return seen;`,
    [],
  ),
  says('file names in stacks', `return /\\/(work|home|root|usr|node_modules)\\//.test(new Error('x').stack);`, false),
  says(
    'error.cause chains of the platform',
    `try { await env.VAD.run({}); } catch (e) { return [typeof e.cause, e.code]; }`,
    ['undefined', 'CFN_MODEL_INPUT'],
  ),
  says(
    'with and Symbol.unscopables',
    `return Function('o', "with (o) { return typeof process + typeof __boot; }")({ [Symbol.unscopables]: { process: false } });`,
    'undefinedundefined',
  ),
  says('a debugger statement', `debugger; return 'went on';`, 'went on'),
  says(
    'prototypes of host answers',
    `const b = crypto.getRandomValues(new Uint8Array(4)); const d = await crypto.subtle.digest('SHA-256', b); return [d.constructor === ArrayBuffer, b.constructor === Uint8Array, ${HOST_NAMES}.filter((n) => n in d.constructor.constructor('return this')())];`,
    [true, true, []],
  ),
  says(
    'prototypes of model answers',
    `const s = new Float32Array(512); const out = await env.VAD.run({ input: new Tensor('float32', s, [1, 512]), state: new Tensor('float32', new Float32Array(256), [2, 1, 128]), sr: new Tensor('int64', BigInt64Array.of(16000n), []) }); const t = Object.values(out)[0]; return [t instanceof Tensor, t.data.constructor === Float32Array, Object.getPrototypeOf(out) === Object.prototype];`,
    [true, true, true],
  ),
];
