import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { moduleOf, startTestSandbox, type TestSandbox } from './testing.ts';

describe('a caller who has gone', () => {
  let sandbox: TestSandbox;
  beforeAll(async () => {
    sandbox = await startTestSandbox(
      moduleOf({
        '/signal': `(request) => new Response(new ReadableStream({ start(c) {
          c.enqueue(new TextEncoder().encode('begun '));
          request.signal.addEventListener('abort', () => {
            c.enqueue(new TextEncoder().encode(request.signal.aborted + ' ' + request.signal.reason.name));
            c.close();
          });
        } }))`,
        '/cancel': `() => new Promise((resolve) => {
          const told = new ReadableStream({ cancel: (reason) => { globalThis.told = reason.name; } });
          resolve(new Response(told));
        })`,
        '/loop': `() => { for (;;) {} }`,
        '/never': `() => new Promise(() => {})`,
        '/ok': `() => new Response('ok')`,
      }),
      { limits: { cpuMs: 20_000, wallMs: 20_000 } },
    );
  });
  afterAll(() => sandbox.close());

  async function abort(path: string): ReturnType<TestSandbox['call']> {
    const id = `abort${path}`;
    const answer = sandbox.call({ path, id });
    await new Promise((resolve) => setTimeout(resolve, 300));
    await sandbox.abort(id);
    return answer;
  }

  test('is told to the function by request.signal', async () => {
    const { body, done } = await abort('/signal');
    expect(body).toBe('begun true AbortError');
    expect(done).toMatchObject({ code: 'CFN_ABORTED', wipe: { isolateDisposed: true } });
  });
  test.each(['/cancel', '/loop', '/never'])('ends %s, whatever it does', async (path) => {
    const { done } = await abort(path);
    expect(done).toMatchObject({ code: 'CFN_ABORTED', wipe: { isolateDisposed: true } });
    expect((await sandbox.call({ path: '/ok' })).body).toBe('ok');
  });
});
