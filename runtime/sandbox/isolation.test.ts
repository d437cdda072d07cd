import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestSandbox, type TestSandbox } from './testing.ts';

describe('nothing of the process is in reach', () => {
  let sandbox: TestSandbox;
  beforeAll(async () => {
    const attempts = {
      constructors: `[Request, Response, fetch, setTimeout, crypto.getRandomValues, env.constructor, ctx.waitUntil, Tensor, URL].map((f) => typeof f.constructor.constructor('return typeof process === "undefined" ? undefined : process')())`,
      names: `['process', 'require', 'global', 'Buffer', '__boot', 'ivm', 'module', 'SharedArrayBufferStandIn'].filter((name) => name in globalThis)`,
      callee: `(() => { try { return typeof env.constructor.constructor('return arguments.callee.caller')(); } catch (e) { return e.name; } })()`,
      stack: `(() => { const seen = []; Error.prepareStackTrace = (e, frames) => { for (const f of frames) seen.push(typeof f.getThis(), typeof f.getFunction()); return ''; }; new Error().stack; return seen.every((t) => t === 'undefined' || t === 'function' || t === 'object'); })()`,
      imports: `await import('node:fs').then(() => 'imported', (e) => 'refused')`,
    };
    const entries = Object.entries(attempts).map(([name, code]) => `${name}: ${code}`);
    sandbox = await startTestSandbox(
      `export default { async fetch(request, env, ctx) { return Response.json({ ${entries.join(', ')} }); } }`,
    );
  });
  afterAll(() => sandbox.close());

  test('by constructors, names, stacks or imports', async () => {
    const answer = await sandbox.call();
    expect(answer.done.code).toBeUndefined();
    expect(JSON.parse(answer.body)).toMatchObject({
      constructors: Array<string>(9).fill('undefined'),
      names: [],
      imports: 'refused',
    });
  });
});
