import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { moduleOf, startTestSandbox, type TestSandbox } from './testing.ts';

describe('limits', () => {
  // Each is far from the limit that it is not about: CPU time passes slowly on a busy machine.
  let busy: TestSandbox;
  let patient: TestSandbox;
  beforeAll(async () => {
    const bundle = moduleOf({
      '/ok': `() => new Response('ok')`,
      '/loop': `() => { for (;;) {} }`,
      '/regex': `() => new Response(String(/^(a+)+$/.test('a'.repeat(60) + 'b')))`,
      '/promises': `() => new Promise(() => { const flood = () => Promise.resolve().then(flood); flood(); })`,
      '/async': `async () => { for (;;) await null; }`,
      '/timers': `() => new Promise(() => { const again = () => { for (let i = 0; i < 1e6; i++); setTimeout(again); }; again(); })`,
      '/getter': `() => { Promise.reject({ get message() { for (;;) {} } }); return new Promise(() => {}); }`,
      '/thenable': `() => ({ then() { for (;;) {} } })`,
      '/never': `() => new Promise(() => {})`,
      '/later': `(r, e, ctx) => { ctx.waitUntil(new Promise(() => {})); return new Response('early'); }`,
    });
    [busy, patient] = await Promise.all([
      startTestSandbox(bundle, { limits: { cpuMs: 300, wallMs: 30_000, memoryMb: 64 } }),
      startTestSandbox(bundle, { limits: { cpuMs: 20_000, wallMs: 1_500, memoryMb: 64 } }),
    ]);
  });
  afterAll(() => Promise.all([busy.close(), patient.close()]));

  test.each(['/loop', '/regex', '/promises', '/async', '/timers', '/getter', '/thenable'])(
    '%s ends with CFN_LIMIT_CPU, and the next one is served',
    async (path) => {
      const answer = await busy.call({ path, wallMs: 30_000 });
      expect(answer.done).toMatchObject({ code: 'CFN_LIMIT_CPU', wipe: { isolateDisposed: true } });
      expect((await busy.call({ path: '/ok' })).body).toBe('ok');
    },
  );
  test.each(['/never', '/later'])('%s ends with CFN_LIMIT_WALL, and the next one is served', async (path) => {
    const answer = await patient.call({ path, wallMs: 30_000 });
    expect(answer.done).toMatchObject({ code: 'CFN_LIMIT_WALL', wipe: { isolateDisposed: true } });
    expect((await patient.call({ path: '/ok' })).body).toBe('ok');
  });
  test('the request may have less time than the function', async () => {
    const answer = await busy.call({ path: '/never', wallMs: 50 });
    expect(answer.done.code).toBe('CFN_LIMIT_WALL');
    expect(answer.done.usage.wallMs).toBeLessThan(10_000);
  });
  test('a loop does not hold up the one beside it', async () => {
    const loop = busy.call({ path: '/loop', wallMs: 30_000 });
    const finished: string[] = [];
    void loop.then(() => finished.push('loop'));
    expect((await busy.call({ path: '/ok' })).body).toBe('ok');
    expect(finished).toEqual([]);
    expect((await loop).done.code).toBe('CFN_LIMIT_CPU');
  });

  describe('of what is not time', () => {
    let sandbox: TestSandbox;
    beforeAll(async () => {
      const bundle = moduleOf({
        '/ok': `() => new Response('ok')`,
        '/response': `() => new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(60000)); } }))`,
        '/atomics': `() => { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); return new Response('waited'); }`,
        '/stack': `() => { const f = () => f(); f(); }`,
        '/many-timers': `() => { for (;;) setTimeout(() => {}, 1000); }`,
      });
      sandbox = await startTestSandbox(bundle, { limits: { cpuMs: 20_000, wallMs: 20_000, memoryMb: 64 } });
    });
    afterAll(() => sandbox.close());

    test.each([
      ['/response', 'CFN_LIMIT_RESPONSE'],
      ['/atomics', 'CFN_FUNCTION_THREW'],
      ['/stack', 'CFN_FUNCTION_THREW'],
      ['/many-timers', 'CFN_FUNCTION_THREW'],
    ])('%s ends with %s, and the next one is served', async (path, code) => {
      const answer = await sandbox.call({ path, wallMs: 20_000 });
      expect(answer.done).toMatchObject({ code, wipe: { isolateDisposed: true } });
      expect((await sandbox.call({ path: '/ok' })).body).toBe('ok');
    });
  });
});

describe('the memory limit', () => {
  let sandbox: TestSandbox;
  beforeAll(async () => {
    const bundle = moduleOf({
      '/ok': `() => new Response('ok')`,
      '/heap': `() => { const a = []; while (true) a.push(new Array(1e6)); }`,
      '/filled': `() => { const a = []; while (true) a.push(new Array(1e5).fill(a.length)); }`,
      '/strings': `() => { let s = 'x'; const a = []; while (true) { s += s.slice(0, 1000) + Math.random(); a.push(s.repeat(10) + a.length); } }`,
      '/buffers': `() => { const a = []; while (true) a.push(new Uint8Array(1e6).fill(1)); }`,
      '/small-buffers': `() => { const a = []; while (true) a.push(new Uint8Array(65).fill(1)); }`,
      '/resizable': `() => { const b = new ArrayBuffer(8, { maxByteLength: 2 ** 33 }); for (let n = 1; ; n++) { b.resize(n * 2 ** 24); new Uint8Array(b).fill(n); } }`,
      '/wasm': `() => { const a = []; for (;;) { const m = new WebAssembly.Memory({ initial: 512 }); new Uint8Array(m.buffer).fill(1); a.push(m); } }`,
      '/buffered': `() => new Response(new Uint8Array(33 * 1024 * 1024))`,
    });
    sandbox = await startTestSandbox(bundle, { limits: { cpuMs: 20_000, wallMs: 20_000, memoryMb: 96 } });
  });
  afterAll(() => sandbox.close());

  test.each([
    ['/heap', 'CFN_LIMIT_MEMORY'],
    ['/filled', 'CFN_LIMIT_MEMORY'],
    ['/strings', 'CFN_LIMIT_MEMORY'],
    ['/buffers', 'CFN_LIMIT_MEMORY'],
    ['/small-buffers', 'CFN_LIMIT_MEMORY'],
    ['/resizable', 'CFN_LIMIT_MEMORY'],
    ['/buffered', 'CFN_LIMIT_RESPONSE'],
    ['/wasm', 'CFN_LIMIT_MEMORY'],
  ])('%s ends with %s, and the next one is served', async (path, code) => {
    const answer = await sandbox.call({ path, wallMs: 20_000 });
    expect(answer.done).toMatchObject({ code, wipe: { isolateDisposed: true } });
    expect((await sandbox.call({ path: '/ok' })).body).toBe('ok');
  });
});

test('what V8 cannot survive ends the process, after the invocation was told why', async () => {
  const bundle = `export default { fetch() { const m = new Map(); for (let i = 0; ; i++) m.set(i, { i, next: m.get(i - 1) }); } }`;
  const sandbox = await startTestSandbox(bundle, { limits: { cpuMs: 20_000, wallMs: 20_000, memoryMb: 64 } });
  const { done } = await sandbox.call({ wallMs: 20_000 });
  expect(done.code).toBe('CFN_LIMIT_MEMORY');
  if (!done.wipe.isolateDisposed) await sandbox.exited;
  await sandbox.close();
});
