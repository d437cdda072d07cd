import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { moduleOf, startDoublingEngine, startTestSandbox, type TestSandbox } from './testing.ts';

describe('env.MODEL', () => {
  let engine: Awaited<ReturnType<typeof startDoublingEngine>>;
  let sandbox: TestSandbox;
  beforeAll(async () => {
    engine = await startDoublingEngine();
    const run = (feeds: string): string =>
      `async (request, env) => { try { const { y } = await env.DOUBLE.run(${feeds}); return Response.json({ type: y.type, dims: y.dims, data: Array.from(y.data) }); } catch (e) { return Response.json({ code: e.code, message: e.message }); } }`;
    const bundle = moduleOf({
      '/run': run(`{ x: new Tensor('float32', Float32Array.of(1, 2.5), [1, 2]) }`),
      '/shapes': `(r, env) => Response.json([env.DOUBLE.inputs, env.DOUBLE.outputs, Object.isFrozen(env.DOUBLE)])`,
      '/twice': `async (r, env) => { const x = new Tensor('float32', Float32Array.of(1, 2), [1, 2]); const a = await Promise.all([env.DOUBLE.run({ x }), env.DOUBLE.run({ x })]); const { y } = await env.DOUBLE.run({ x: a[0].y }); return Response.json([a.length, Array.from(y.data)]); }`,
      '/rank': run(`{ x: new Tensor('float32', new Float32Array(2), [2]) }`),
      '/dim': run(`{ x: new Tensor('float32', new Float32Array(3), [1, 3]) }`),
      '/type': run(`{ x: new Tensor('float64', new Float64Array(2), [1, 2]) }`),
      '/missing': run(`{}`),
      '/surplus': run(`{ x: new Tensor('float32', new Float32Array(2), [1, 2]), z: 1 }`),
      '/lookalike': run(`{ x: { type: 'float32', data: new Float32Array(2), dims: [1, 2] } }`),
      '/engine-refuses': run(`{ x: new Tensor('float32', Float32Array.of(-1, 0), [1, 2]) }`),
      '/uncaught': `(r, env) => env.DOUBLE.run({})`,
      '/wait': `async (r, env) => { await env.DOUBLE.run({ x: new Tensor('float32', new Float32Array(2), [1, 2]) }); return new Response('late'); }`,
      '/tensor': `() => { const bad = []; for (const make of [() => new Tensor('float32', new Float32Array(3), [2]), () => new Tensor('float32', new Float64Array(2), [2]), () => new Tensor('text', [], [0]), () => new Tensor('float32', new Float32Array(2), [-2, -1])]) { try { make(); bad.push('made'); } catch (e) { bad.push(e.name); } } return Response.json(bad); }`,
    });
    sandbox = await startTestSandbox(bundle, {
      limits: { wallMs: 3_000 },
      models: [
        {
          binding: 'DOUBLE',
          socketPath: engine.socketPath,
          inputs: [{ name: 'x', type: 'float32', dims: ['batch', 2] }],
          outputs: [{ name: 'y', type: 'float32', dims: ['batch', 2] }],
        },
      ],
    });
  });
  afterAll(async () => {
    await sandbox.close();
    engine.close();
  });

  test('runs, and counts', async () => {
    const { body, done } = await sandbox.call({ path: '/run' });
    expect(body).toBe('{"type":"float32","dims":[1,2],"data":[2,5]}');
    expect(done).toMatchObject({
      usage: { models: [{ engineMs: 1.5, engineCalls: 1 }] },
      wipe: { engineBytesOverwritten: 16, isolateDisposed: true },
    });
    expect(done.wipe.sandboxBytesOverwritten).toBeGreaterThan(8 + body.length);
  });
  test('runs at once and in a chain', async () => {
    const { body, done } = await sandbox.call({ path: '/twice' });
    expect(body).toBe('[2,[4,8]]');
    expect(done.usage.models).toEqual([{ engineMs: 4.5, engineCalls: 3 }]);
  });
  test('tells its shapes', async () => {
    expect((await sandbox.call({ path: '/shapes' })).body).toBe(
      '[[{"name":"x","type":"float32","dims":["batch",2]}],[{"name":"y","type":"float32","dims":["batch",2]}],true]',
    );
  });
  test.each(['/rank', '/dim', '/type', '/missing', '/surplus', '/lookalike'])(
    'refuses %s without asking the engine',
    async (path) => {
      const before = engine.calls();
      expect(JSON.parse((await sandbox.call({ path })).body)).toMatchObject({ code: 'CFN_MODEL_INPUT' });
      expect(engine.calls()).toBe(before);
    },
  );
  test('a refusal of the engine arrives as it is', async () => {
    expect(JSON.parse((await sandbox.call({ path: '/engine-refuses' })).body)).toEqual({
      code: 'CFN_MODEL_INPUT',
      message: 'the model refuses -1',
    });
  });
  test('an uncaught one is the outcome', async () => {
    expect((await sandbox.call({ path: '/uncaught' })).done.code).toBe('CFN_MODEL_INPUT');
  });
  test('tensors that contradict themselves are refused', async () => {
    expect((await sandbox.call({ path: '/tensor' })).body).toBe('["TypeError","TypeError","TypeError","TypeError"]');
  });
  test('the engine is lost, and found again', async () => {
    engine.stall(true);
    const before = engine.calls();
    const waiting = sandbox.call({ path: '/wait' });
    await expect.poll(() => engine.calls(), { timeout: 2_000 }).toBeGreaterThan(before);
    engine.dropConnections();
    expect((await waiting).done.code).toBe('CFN_ENGINE_LOST');
    engine.stall(false);
    expect((await sandbox.call({ path: '/wait' })).body).toBe('late');
  });
  test('an engine that is not there is lost, too, and the process lives on', async () => {
    const models = [{ binding: 'GONE', socketPath: `${engine.socketPath}.gone`, inputs: [], outputs: [] }];
    const alone = await startTestSandbox(
      `export default { fetch: (r, env) => (r.url.endsWith('/run') ? env.GONE.run({}) : new Response('ok')) }`,
      { models },
    );
    expect((await alone.call({ path: '/run' })).done.code).toBe('CFN_ENGINE_LOST');
    expect((await alone.call({ path: '/' })).body).toBe('ok');
    await alone.close();
  });
  test('an abort does not wait for the engine to answer', async () => {
    engine.stall(true);
    const waiting = sandbox.call({ path: '/wait', id: 'stalled' });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await sandbox.abort('stalled');
    expect((await waiting).done).toMatchObject({ code: 'CFN_ABORTED', wipe: { isolateDisposed: true } });
    engine.stall(false);
    engine.dropConnections();
  });
});
