import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { moduleOf, startTestSandbox, type TestSandbox } from './testing.ts';

const json = (value: string): string => `() => Response.json(${value})`;

describe('one function', () => {
  let sandbox: TestSandbox;
  beforeAll(async () => {
    const bundle = moduleOf(
      {
        '/echo': `async (request) => new Response(await request.arrayBuffer(), { status: 201, headers: { 'x-method': request.method, 'x-url': request.url, 'x-in': request.headers.get('x-in') } })`,
        '/json': `async (request) => Response.json({ got: await request.json() })`,
        '/stream': `() => new Response(new ReadableStream({ async start(c) { for (const part of ['a', 'b', 'c']) { await new Promise((r) => setTimeout(r, 1)); c.enqueue(new TextEncoder().encode(part)); } c.close(); } }))`,
        '/large': `() => new Response('x'.repeat(300000))`,
        '/counter': `() => new Response(String(++counter))`,
        '/pollute': `() => { Object.prototype.polluted = 1; Response.json = () => new Response('mine'); globalThis.left = 1; return new Response('done'); }`,
        '/polluted': json(`[{}.polluted ?? null, typeof left]`),
        '/wait': `(r, e, ctx) => { ctx.waitUntil(new Promise((resolve) => setTimeout(resolve, 60))); return new Response('early'); }`,
        '/env': `(r, env) => Response.json(env)`,
        '/throw': `() => { throw new Error('secret of the request'); }`,
        '/reject': `() => Promise.reject('secret')`,
        '/forged': `() => { throw Object.assign(new Error('x'), { code: 'CFN_ENGINE_LOST' }); }`,
        '/number': `() => 42`,
        '/nothing': `() => undefined`,
        '/fake': `() => ({ status: 200, headers: new Headers(), body: null, __proto__: Response.prototype })`,
        '/late': `() => new Response(new ReadableStream({ pull(c) { c.enqueue(new Uint8Array(3)); throw new Error('midway'); } }))`,
        '/floating': `() => { Promise.reject(new Error('nobody listens')); return new Response('fine'); }`,
      },
      'let counter = 0;',
    );
    sandbox = await startTestSandbox(bundle, { vars: { LANGUAGE: 'en' } });
  });
  afterAll(() => sandbox.close());

  test('gets the request and answers it', async () => {
    const answer = await sandbox.call({
      path: '/echo?a=1',
      method: 'PUT',
      headers: [['x-in', 'v']],
      body: 'bytes \u{1F600}',
    });
    expect(answer).toMatchObject({
      status: 201,
      body: 'bytes \u{1F600}',
      headers: { 'x-method': 'PUT', 'x-url': 'https://gateway.example/echo?a=1', 'x-in': 'v' },
    });
    expect(answer.done).toMatchObject({ wipe: { isolateDisposed: true } });
    expect(answer.done.code).toBeUndefined();
    expect(answer.done.wipe.sandboxBytesOverwritten).toBeGreaterThan(0);
    expect(answer.done.usage).toMatchObject({ models: [] });
    expect(answer.done.usage.cpuMs).toBeGreaterThan(0);
  });
  test('parses JSON', async () => {
    expect((await sandbox.call({ path: '/json', method: 'POST', body: '{"a":[1,"ü"]}' })).body).toBe(
      '{"got":{"a":[1,"ü"]}}',
    );
  });
  test('streams', async () => {
    const answer = await sandbox.call({ path: '/stream' });
    expect(answer.body).toBe('abc');
    expect(answer.frames).toBe(5); // head, three chunks, terminator
  });
  test('cuts a large body into frames of at most 64 KiB', async () => {
    const answer = await sandbox.call({ path: '/large' });
    expect(answer.body.length).toBe(300_000);
    expect(answer.largestFrame).toBeLessThanOrEqual(65_536);
  });
  test('HEAD has no content', async () => {
    expect(await sandbox.call({ path: '/large', method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
  });
  test('INV-09 starts every invocation afresh, also beside others', async () => {
    const answers = await Promise.all(Array.from({ length: 8 }, () => sandbox.call({ path: '/counter' })));
    expect(answers.map(({ body }) => body)).toEqual(Array<string>(8).fill('1'));
  });
  test('INV-09 pollution ends with its invocation', async () => {
    await sandbox.call({ path: '/pollute' });
    for (let i = 0; i < 3; i++) expect((await sandbox.call({ path: '/polluted' })).body).toBe('[null,"undefined"]');
  });
  test('waitUntil keeps it alive', async () => {
    const answer = await sandbox.call({ path: '/wait' });
    expect(answer.body).toBe('early');
    expect(answer.done.usage.wallMs).toBeGreaterThan(50);
  });
  test('vars are in env', async () => {
    expect((await sandbox.call({ path: '/env' })).body).toBe('{"LANGUAGE":"en"}');
  });
  test.each([
    ['/throw', 'CFN_FUNCTION_THREW'],
    ['/reject', 'CFN_FUNCTION_THREW'],
    ['/forged', 'CFN_FUNCTION_THREW'],
    ['/unknown', 'CFN_FUNCTION_THREW'],
    ['/number', 'CFN_FUNCTION_NO_RESPONSE'],
    ['/nothing', 'CFN_FUNCTION_NO_RESPONSE'],
    ['/fake', 'CFN_FUNCTION_NO_RESPONSE'],
  ])('%s ends with %s', async (path, code) => {
    const answer = await sandbox.call({ path });
    expect(answer).toMatchObject({ status: undefined, frames: 0, done: { code, wipe: { isolateDisposed: true } } });
    expect(JSON.stringify(answer.done)).not.toContain('secret');
  });
  test('a body that fails midway ends with a code', async () => {
    expect(await sandbox.call({ path: '/late' })).toMatchObject({ status: 200, done: { code: 'CFN_FUNCTION_THREW' } });
  });
  test('a rejection that nobody handles does not end it', async () => {
    const answer = await sandbox.call({ path: '/floating' });
    expect(answer.body).toBe('fine');
    expect(answer.done.code).toBeUndefined();
  });
  test('a malformed request is refused', async () => {
    expect((await sandbox.raw('bad', new Uint8Array([9, 9, 9]))).done.code).toBe('CFN_REQUEST_MALFORMED');
  });
  test('an aborted one is disposed of', async () => {
    const answer = sandbox.call({ path: '/wait', id: 'gone' });
    await sandbox.abort('gone');
    expect((await answer).done).toMatchObject({ code: 'CFN_ABORTED', wipe: { isolateDisposed: true } });
  });
});

describe('start', () => {
  test.each([
    ['syntax', 'export default {'],
    ['evaluation', `throw new Error('broken')`],
    ['no handler', 'export default {}'],
    ['no default', 'export const a = 1'],
    ['an import', `import 'node:fs'; export default { fetch() {} }`],
    [
      'an evaluation that never ends in promises',
      `const f = () => Promise.resolve().then(f); f(); export default { fetch() {} }`,
    ],
  ])(
    'fails with CFN_FUNCTION_INVALID: %s',
    async (_, bundle) => {
      const sandbox = await startTestSandbox(bundle);
      expect(sandbox.first).toMatchObject({ op: 'start-failed', code: 'CFN_FUNCTION_INVALID' });
      await sandbox.close();
    },
    20_000,
  );
  test('works without a snapshot', async () => {
    const sandbox = await startTestSandbox(`export default { fetch: (r) => new Response(r.url) }`, {
      flags: ['--no-isolate-snapshot'],
      poolSize: 1,
    });
    expect((await sandbox.call({ path: '/x' })).body).toBe('https://gateway.example/x');
    await sandbox.close();
  });
  test('works without a pool', async () => {
    const sandbox = await startTestSandbox(`export default { fetch: () => new Response('made') }`, { poolSize: 0 });
    expect((await sandbox.call()).body).toBe('made');
    await sandbox.close();
  });
  test('timers of the module begin with the request', async () => {
    const bundle = `let fired = 0; setTimeout(() => { fired++; }, 0);
      export default { fetch: () => { const before = fired; return new Promise((r) => setTimeout(() => r(Response.json([before, fired])), 30)); } }`;
    const sandbox = await startTestSandbox(bundle, { poolSize: 1 });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect((await sandbox.call()).body).toBe('[0,1]');
    await sandbox.close();
  });
});
