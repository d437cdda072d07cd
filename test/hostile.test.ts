import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { problemCode, startTestSystem, type TestSystem } from './local-system.ts';

/** Functions that misbehave: each gets its own code, and its neighbour goes on. */
const HOSTILE = [
  ['loops', 'for(;;){}', ['CFN_LIMIT_CPU']],
  [
    'allocates',
    'const keep=[]; for(;;) keep.push(new Array(100_000).fill(keep.length));',
    ['CFN_LIMIT_MEMORY', 'CFN_SANDBOX_LOST'],
  ], // it may end the process: then the code says retry
  ['throws', 'throw new Error("secret of the request");', ['CFN_FUNCTION_THREW']],
  ['returns-nothing', 'return 42;', ['CFN_FUNCTION_NO_RESPONSE']],
  [
    'floods',
    'await new Promise(() => { const spin = () => Promise.resolve().then(spin); spin(); });',
    ['CFN_LIMIT_CPU', 'CFN_LIMIT_MEMORY'],
  ],
  ['waits', 'await new Promise(() => {});', ['CFN_LIMIT_WALL']],
] as const;

let system: TestSystem;
beforeAll(async () => {
  system = await startTestSystem();
  await system.deploy('neighbour', 'let n = 0; export default { fetch: () => new Response(String(++n)) }');
});
afterAll(() => system.stop());

describe('INV-10 limits hold, and co-tenants go on', () => {
  test.each(HOSTILE)('a function that %s', async (name, body, codes) => {
    await system.deploy(name, `export default { async fetch(request) { ${body} } }`, {
      limits: { cpuMs: 500, wallMs: 5_000, memoryMb: 32 },
    });
    const misbehaving = system.call(name, { method: 'POST', body: 'x' });
    for (let i = 0; i < 5; i++) {
      const neighbour = await system.call('neighbour');
      expect([neighbour.status, await neighbour.text()]).toEqual([200, '1']); // 1: a fresh isolate each time
    }
    const answer = await misbehaving;
    expect(await answer.clone().text()).not.toContain('secret of the request');
    expect(codes).toContain(await problemCode(answer));
    expect((await system.call('neighbour')).status).toBe(200);
  });
});
